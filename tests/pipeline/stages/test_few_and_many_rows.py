"""Few rows are looked up and compared in this process, many by the engine: both ways give the same tables."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from factories_pipeline import Site, on_sail
from factories_shop_rows import SHOP
from random_shop import random_batches

from pipeline.contract import Outcome, Quality
from pipeline.engine.session import Session
from pipeline.sources.retail.feeds import RETAIL
from pipeline.stages import comparison, enriched_rows

WITHOUT_GOLD = replace(RETAIL, gold_module="")
COLUMNS = [c.name for c in RETAIL.enriched_columns(RETAIL.enriched[0])]


@pytest.mark.slow
@on_sail
def test_few_and_many_rows_give_the_same_enriched_rows_and_findings(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenient = Quality(max_snapshot_shrink=1.0)
    # Few rows look up few others in this process, or many others by the engine; many rows are left to it.
    ways = {"few": (comparison.IN_PROCESS_ROWS, enriched_rows.LOOKUP_ROWS), "large": (comparison.IN_PROCESS_ROWS, 0)}
    ways["many"] = (0, 0)
    sites = {way: Site(tmp_path / way, session, WITHOUT_GOLD, fill=SHOP, quality=lenient) for way in ways}
    # Snapshots delete orders and stock, late rows change history, and some orders know no customer and no product.
    for batch in random_batches(Random(17)):
        seen = {}
        for way, site in sites.items():
            monkeypatch.setattr(comparison, "IN_PROCESS_ROWS", ways[way][0])
            monkeypatch.setattr(enriched_rows, "LOOKUP_ROWS", ways[way][1])
            result = site.deliver(**batch)
            assert result.outcome is Outcome.PUBLISHED, result.reason
            written = site.written("silver.enriched_orders", result)
            seen[way] = site.draw("silver.enriched_orders", *COLUMNS), site.broken(result), written
        assert seen["few"] == seen["large"] == seen["many"], batch["day"]
