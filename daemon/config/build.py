"""Builds the configuration from the values of every option."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.config.config import (
    AlertsConfig,
    Config,
    DebounceConfig,
    DispatchConfig,
    LandingConfig,
    LogConfig,
    MetricsConfig,
    OpenLineageConfig,
    RetryConfig,
    UiConfig,
)
from daemon.config.options import OPTIONS
from pipeline.contract import Quality, Settings, is_store


def build_config(path: Path, values: Mapping[str, Mapping[str, Any]]) -> Config:
    """Returns the configuration of the file `path`."""
    folder = path.parent
    landing = values["landing"]
    landing_path = absolute(folder, landing["path"])
    log_path = absolute(folder, values["log"]["path"])
    return Config(
        path=path,
        landing=LandingConfig(
            path=landing_path,
            trigger_path=absolute(folder, landing["trigger_path"] or str(landing_path / "trigger")),
            claim_path=absolute(folder, landing["claim_path"] or str(landing_path / ".claim")),
            archive_path=absolute(folder, landing["archive_path"]),
            rejected_path=absolute(folder, landing["rejected_path"]),
            missing_file_timeout_seconds=landing["missing_file_timeout_seconds"],
            allow_world_writable=landing["allow_world_writable"],
            ignore=landing["ignore"],
            bare_date=landing["bare_date"],
        ),
        debounce=DebounceConfig(**values["debounce"]),
        dispatch=DispatchConfig(**values["dispatch"]),
        retry=RetryConfig(**values["retry"]),
        ledger_path=absolute(folder, values["ledger"]["path"]),
        log=LogConfig(path=log_path, level=values["log"]["level"]),
        alerts=AlertsConfig(**values["alerts"]),
        ui=UiConfig(**values["ui"]),
        openlineage=_build_openlineage(folder, values["openlineage"]),
        metrics=MetricsConfig(
            path=absolute(folder, values["metrics"]["path"]) if values["metrics"]["path"] else None,
            listen=values["metrics"]["listen"],
        ),
        settings=_build_settings(folder, log_path, values),
    )


def _build_openlineage(folder: Path, values: Mapping[str, Any]) -> OpenLineageConfig:
    path = values["path"]
    return OpenLineageConfig(**{**values, "path": absolute(folder, path) if path else None})


def _build_settings(folder: Path, log_path: Path, values: Mapping[str, Mapping[str, Any]]) -> Settings:
    spark = dict(values["spark"])
    jars_path = spark.pop("jars_path")
    path = values["lake"]["path"]
    lake_path = path.rstrip("/") if is_store(path) else str(absolute(folder, path))
    ledger = absolute(folder, values["ledger"]["path"])
    return Settings(
        lake_path=lake_path,
        work_path=f"{ledger}.work/_work" if is_store(lake_path) else "",
        keep_days=values["lake"]["keep_days"],
        **spark,
        jars_path=str(absolute(folder, jars_path)) if jars_path else "",
        log_path=str(log_path.with_name("spark.log")),
        quality=Quality(**values["quality"]),
        sources={name: dict(keys) for name, keys in values.items() if name not in OPTIONS},
        source_paths=tuple(str(absolute(folder, path)) for path in values["sources"]["paths"]),
        exclude=values["sources"]["exclude"],
        # Readers of folders find links in a folder. A store has no links.
        serve_layers=() if is_store(lake_path) else values["serve"]["layers"],
        serve_prefix=values["serve"]["prefix"],
    )


def absolute(folder: Path, path: str) -> Path:
    """Returns a path of the configuration, relative to the folder of its file, as an absolute one."""
    # `..` is removed by name and links are not followed: the operator may change the target of a link.
    return Path(os.path.normpath(folder / Path(path).expanduser()))
