"""The settings that the pipeline takes from config.toml, and the secrets among them."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.contract.secrets import all_spellings, named_secrets, secrets_of_address
from pipeline.place import Place, place_of

STREAMING_ENGINE = "spark"  # only this engine passes the batches of a streaming query to this process


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The limits that reject a whole batch, where None is off, and the range of event times.

    `max_future_hours` counts from the end of the batch date. An event before the day `min_event_time` is rejected.
    """

    min_score: float | None = None
    max_rejected_share: float | None = None
    fail_on_high: bool = False
    max_snapshot_shrink: float = 0.5
    max_future_hours: float = 24.0
    min_event_time: dt.date = dt.date(1971, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The part of config.toml that the pipeline needs. Paths are absolute."""

    lake_path: str  # or the address of a prefix in an object store: s3://bucket/lake
    work_path: str = ""  # the folder of scratch files; empty: _work in the lake
    keep_days: int = 30
    engine: str = "spark"  # spark | sail | connect
    master: str = "local[*]"
    driver_memory: str = "2g"
    remote: str = ""
    jars_path: str = ""
    conf: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""  # the file for the output of Spark itself
    quality: Quality = field(default_factory=Quality)
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # [retail] … as in config.toml
    source_paths: tuple[str, ...] = ()  # folders of sources outside of the package
    exclude: tuple[str, ...] = ()  # shipped sources that this lake leaves out
    serve_layers: tuple[str, ...] = ()  # the layers for readers that know no versions; empty: none
    serve_prefix: str = ""  # the lake's folder as the readers of the DuckDB files see it; empty: lake_path

    @property
    def lake(self) -> Place:
        """The place of the lake."""
        return place_of(self.lake_path)

    @property
    def folder(self) -> Path:
        """The folder on this machine: of the lake, or of the scratch files of a lake in a store."""
        return self.lake if isinstance(self.lake, Path) else self.work

    @property
    def is_elsewhere(self) -> bool:
        """Whether the engine reads and writes on other machines: it sees no folder of this one."""
        return self.engine == "connect" or (self.engine == "spark" and not self.master.startswith("local"))

    @property
    def work(self) -> Path:
        """The folder of scratch files, on this machine."""
        return Path(self.work_path or f"{self.lake_path}/_work")


def secrets_of(
    settings: Settings,
    addresses: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Returns every secret in the settings, in further service addresses and in an environment, for `hide_secrets`."""
    sources = {f"{name}.{key}": str(v) for name, keys in settings.sources.items() for key, v in keys.items()}
    named = named_secrets({**sources, **settings.conf, "remote": settings.remote, **(environ or {})})
    return all_spellings([*named, *(secret for address in addresses for secret in secrets_of_address(address))])
