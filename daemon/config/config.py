"""The configuration as typed values: one class for each section of config.toml."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.contract import Settings, secrets_of


class ConfigError(Exception):
    """The configuration cannot be used. The message is the whole text for the user: every problem with its place."""


@dataclass(frozen=True, kw_only=True)
class LandingConfig:
    path: Path
    trigger_path: Path
    claim_path: Path
    archive_path: Path
    rejected_path: Path
    missing_file_timeout_seconds: float
    allow_world_writable: bool
    ignore: tuple[str, ...]
    bare_date: str


@dataclass(frozen=True, kw_only=True)
class DebounceConfig:
    quiet_seconds: float
    max_wait_seconds: float


@dataclass(frozen=True, kw_only=True)
class DispatchConfig:
    timeout_seconds: float
    poison_after: int
    stop_seconds: float
    on_published: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    attempts: int
    initial_seconds: float
    max_seconds: float


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    path: Path
    level: str


@dataclass(frozen=True, kw_only=True)
class AlertsConfig:
    urls: tuple[str, ...]
    routes: Mapping[str, tuple[str, ...]]  # by source
    page_url: str
    example_rows: bool

    @property
    def every_url(self) -> tuple[str, ...]:
        """Returns every address once, those for all sources first."""
        return tuple(dict.fromkeys((*self.urls, *(url for urls in self.routes.values() for url in urls))))

    def urls_of(self, source: str) -> tuple[str, ...]:
        """Returns the addresses for alerts about a source; '' stands for the daemon itself, which concerns all."""
        own = self.routes.get(source, ())
        return tuple(dict.fromkeys((*self.urls, *own))) or (() if source else self.every_url)


@dataclass(frozen=True, kw_only=True)
class UiConfig:
    listen: str
    token: str
    hosts: tuple[str, ...]

    @property
    def host(self) -> str:
        """The host of `listen`, without the brackets of an IPv6 address."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])


@dataclass(frozen=True, kw_only=True)
class OpenLineageConfig:
    url: str
    path: Path | None
    api_key: str
    namespace: str

    @property
    def is_on(self) -> bool:
        """Whether events go anywhere."""
        return bool(self.url or self.path)


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    path: Path | None
    listen: str


@dataclass(frozen=True, kw_only=True)
class Config:
    """The values of config.toml and of the environment. All paths are absolute; `path` is the path of config.toml."""

    path: Path
    landing: LandingConfig
    debounce: DebounceConfig
    dispatch: DispatchConfig
    retry: RetryConfig
    ledger_path: Path
    log: LogConfig
    alerts: AlertsConfig
    ui: UiConfig
    openlineage: OpenLineageConfig
    metrics: MetricsConfig
    settings: Settings

    def secrets(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """Returns the secrets of the configuration and the environment, which no log, journal or terminal may show."""
        addresses = [*self.alerts.every_url, self.openlineage.url, self.openlineage.api_key]
        secrets = secrets_of(self.settings, [a for a in addresses if a], environ)
        return (*secrets, *filter(None, [self.ui.token]))
