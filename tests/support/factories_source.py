"""The small source `kiosk` in its own folder, correct or with one mistake."""

from pathlib import Path

FEEDS = '''"""What the stalls deliver."""

from pipeline.model import HIGH, REJECT, Feed, Reference, Rule, Scd1, Scd2, Setting, Source

stalls = Feed(name="stalls", files="stalls_*.csv", columns="stall STRING NOT NULL, place STRING", key=("stall",), stored_as=Scd1())

takings = Feed(
    name="takings",
    files="takings_*.csv",
    columns="receipt STRING NOT NULL, stall STRING NOT NULL, quantity INT NOT NULL, sold_at TIMESTAMP NOT NULL",
    key=("receipt",),
    stored_as=Scd2(sequence_by="sold_at"),
    rules=(Rule("something_was_sold", "quantity <= $most", severity=HIGH, action=REJECT),),
    references=(Reference("taking_has_stall", "stalls", ("stall",)),),
)

KIOSK = Source(name="kiosk", feeds=(stalls, takings), settings=(Setting(name="most", default=50, meaning="pieces at most"),))
'''  # noqa: E501 - tests name the lines of this text
GOLD = '''"""The gold tables of kiosk."""

from typing import TYPE_CHECKING

from pipeline.model import aggregate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@aggregate(upstream="takings", grain=("stall",), columns="stall STRING, receipts BIGINT", sum={"receipts": "1"})
def by_stall(sums: "DataFrame") -> "DataFrame":
    """Receipts by stall."""
    return sums
'''


def kiosk(root: Path, feeds: str = FEEDS, gold: str = GOLD, **more: str) -> Path:
    """Writes the folder of the source `kiosk` and returns it; `more` are further modules by name."""
    folder = root / "kiosk"
    folder.mkdir(parents=True)
    for name, text in {"feeds": feeds, "gold": gold, **more}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def changed(text: str, old: str, new: str) -> str:
    """Returns the text with one replacement."""
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
    return text.replace(old, new)
