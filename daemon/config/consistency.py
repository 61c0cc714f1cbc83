"""Finds values of the configuration that are valid alone and contradict one another."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from daemon.config.config import Config, UiConfig
from daemon.config.problems import did_you_mean
from pipeline.contract import STREAMING_ENGINE, catalog, is_store, streaming

# Characters that readers of Delta tables treat as a glob pattern or as an escape.
UNUSABLE_IN_LAKE_PATH = r"""[]{}*?%#\^|<>"`"""
LAYERS = ("gold", "silver", "bronze")

SHORTEST_TOKEN = 16

Contradiction = tuple[str, str, str]  # section, key, sentence


def contradictions(config: Config) -> Iterator[Contradiction]:
    """Yields (section, key, sentence) for each contradiction. The key is the one that the user should correct."""
    yield from _time_limits(config)
    yield from _engine(config)
    yield from _lake_path(config)
    yield from _serve(config)
    yield from _openlineage(config)
    yield from _excluded_sources(config)
    yield from _folders(config)
    if problem := ui_problem(config.ui):
        yield "ui", "token", problem


def _time_limits(config: Config) -> Iterator[Contradiction]:
    quiet_seconds = config.debounce.quiet_seconds
    if config.debounce.max_wait_seconds < quiet_seconds:
        yield "debounce", "max_wait_seconds", f"max_wait_seconds is less than quiet_seconds ({quiet_seconds:g})"
    initial_seconds = config.retry.initial_seconds
    if config.retry.max_seconds < initial_seconds:
        yield "retry", "max_seconds", f"max_seconds is less than initial_seconds ({initial_seconds:g})"


def _engine(config: Config) -> Iterator[Contradiction]:
    settings = config.settings
    if settings.engine == "connect" and not settings.remote:
        sentence = 'engine = "connect" needs remote, the address of the server: remote = "sc://host:15002"'
        yield "spark", "engine", sentence
    if settings.engine != "sail" and settings.lake_path.startswith("az://"):
        remedy = "write abfss://container@account.dfs.core.windows.net/lake"
        yield "lake", "path", f"the engine {settings.engine} knows no az:// addresses; {remedy}"
    for source in streaming(catalog(settings.source_paths, settings.exclude), settings):
        key = source.stream
        if settings.engine != STREAMING_ENGINE:
            problem = f"{key} = true needs the engine {STREAMING_ENGINE}, and this is {settings.engine}"
            remedy = f'set [spark] engine = "{STREAMING_ENGINE}"'
        elif is_store(settings.lake):
            problem = f"{key} = true needs a lake in a folder, and this one lies in a store"
            remedy = "set [lake] path to a folder"
        else:
            continue
        yield source.name, key, f"{problem}; {remedy}, or {key} = false and deliver with triggers"


def _lake_path(config: Config) -> Iterator[Contradiction]:
    path = config.settings.lake_path
    unusable = next((c for c in path if c in UNUSABLE_IN_LAKE_PATH or not c.isprintable()), "")
    if unusable:
        reason = "readers of Delta tables take it for a pattern or an escape"
        yield "lake", "path", f"path must not contain {unusable!r}: {reason} ({path})"


def _serve(config: Config) -> Iterator[Contradiction]:
    for layer in config.settings.serve_layers:
        if layer not in LAYERS:
            hint = did_you_mean(layer, LAYERS) or f"; there are {', '.join(LAYERS)}"
            yield "serve", "layers", f"layers names {layer}, which is no layer{hint}"
    prefix = config.settings.serve_prefix
    if prefix and (not prefix.startswith("/") or any(c in UNUSABLE_IN_LAKE_PATH for c in prefix)):
        problem = "prefix must be an absolute path without characters of patterns"
        yield "serve", "prefix", f"{problem}, such as /mnt/lake ({prefix})"


def _openlineage(config: Config) -> Iterator[Contradiction]:
    target = config.openlineage
    if target.url and not target.url.startswith(("http://", "https://")):
        yield "openlineage", "url", "url must begin with http:// or https:// (it may be a secret, and is not shown)"
    if target.url and target.path:
        yield "openlineage", "path", "path and url are both set; choose one of them"


def _excluded_sources(config: Config) -> Iterator[Contradiction]:
    shipped = [s.name for s in catalog()]
    for name in config.settings.exclude:
        if name not in shipped:
            hint = did_you_mean(name, shipped) or f"; there are {', '.join(shipped)}"
            yield "sources", "exclude", f"exclude names {name}, which is not a shipped source{hint}"


def _folders(config: Config) -> Iterator[Contradiction]:
    landing = config.landing
    folders = {
        ("landing", "path"): landing.path,
        ("landing", "trigger_path"): landing.trigger_path,
        ("landing", "claim_path"): landing.claim_path,
        ("landing", "archive_path"): landing.archive_path,
        ("landing", "rejected_path"): landing.rejected_path,
        ("lake", "path"): config.settings.folder,
    }
    first_use: dict[Path, tuple[str, str]] = {}
    for (section, key), folder in folders.items():
        if folder in first_use:
            other_section, other_key = first_use[folder]
            yield section, key, f"{key} is the same folder as [{other_section}] {other_key} ({folder})"
        first_use.setdefault(folder, (section, key))
    watched = (landing.path, landing.trigger_path)
    private = (landing.claim_path, landing.archive_path, landing.rejected_path, config.settings.folder)
    for key, folder in zip(("path", "trigger_path"), watched, strict=True):
        inside = [p for p in private if folder.is_relative_to(p) and p not in watched]
        if inside:
            yield "landing", key, f"{key} lies within {inside[0]}, where lakegate keeps its own files"
    files = [("ledger", config.ledger_path), ("log", config.log.path), ("metrics", config.metrics.path)]
    files += [("openlineage", config.openlineage.path)]
    for section, file in files:
        if file and file.parent in (*watched, *private):
            problem = f"path lies directly in {file.parent}, where it would be taken for a delivery or table"
            yield section, "path", f"{problem}; give it a folder of its own"


def ui_problem(ui: UiConfig) -> str:
    """Returns a sentence when the pages would be open to the network without a usable password, else ""."""
    if not ui.listen:
        return 'listen is empty; set a host and a port such as "127.0.0.1:8765"'
    if ui.token and len(ui.token) < SHORTEST_TOKEN:
        return f"token has {len(ui.token)} characters, and a password of the pages needs {SHORTEST_TOKEN} or more"
    if not ui.token and not is_loopback(ui.host):
        advice = 'set [ui] token, or listen = "127.0.0.1:8765"'
        return f"listen is {ui.listen}, which other machines can reach, and token is empty; {advice}"
    return ""


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
