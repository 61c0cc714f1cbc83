"""Reads config.toml and the environment into one Config, or tells every mistake at once. Touches nothing on disk."""

import json
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.config.options import OWN, Key, UnfitError, did_you_mean, sections, unreadable
from daemon.config.packaged_files import shipped
from daemon.config.problems import Mistake, counted, told
from pipeline.contract import STREAMING_ENGINE, Quality, Settings, catalog, mask_secrets, secrets_of, streaming

PREFIX = "LAKEGATE_"
UNUSABLE_IN_LAKE_PATH = r"""[]{}*?%#\^|<>"`"""


class ConfigError(Exception):
    """The configuration cannot be used; the message is the whole text to print, every mistake with its place."""


@dataclass(frozen=True, kw_only=True)
class Landing:
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
class Debounce:
    quiet_seconds: float
    max_wait_seconds: float


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    timeout_seconds: float
    poison_after: int
    stop_seconds: float
    on_published: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Retry:
    attempts: int
    initial_seconds: float
    max_seconds: float


@dataclass(frozen=True, kw_only=True)
class Log:
    path: Path
    level: str


@dataclass(frozen=True, kw_only=True)
class Alerts:
    urls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that config.toml and the environment say. Paths are absolute; `path` is the file itself."""

    path: Path
    landing: Landing
    debounce: Debounce
    dispatch: Dispatch
    retry: Retry
    ledger_path: Path
    log: Log
    alerts: Alerts
    settings: Settings

    def secrets(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """What no log, journal or terminal may show: the secrets of this configuration and of the environment."""
        return secrets_of(self.settings, self.alerts.urls, environ)


@dataclass(frozen=True, kw_only=True)
class _Given:
    value: Any
    variable: str = ""
    text: str = ""


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Reads the file and what `LAKEGATE_<SECTION>__<KEY>` overrides. Raises ConfigError with every mistake."""
    path = path.expanduser().absolute()
    raw = _read(path)
    document = _parsed(raw, path)
    paths, without = _chosen_sources(document, environ, path.parent)
    known, closed = sections(paths, without), unreadable(paths, without)
    given, mistakes = _collected(
        {s: keys for s, keys in document.items() if s not in closed}, _without(closed, environ), known
    )
    values = {section: {key.name: key.default for key in keys} for section, keys in known.items()}
    for (section, name), one in given.items():
        key = next(k for k in known[section] if k.name == name)
        try:
            values[section][name] = key.kind.read(one.text if key.kind.textual and one.variable else one.value)
        except UnfitError:
            said = f"{name} is not {key.kind.phrase} (its value may be a secret, and is not shown)"
            if not key.is_secret:
                said = f"{name} = {_shown(one.value)} is not {key.kind.phrase}{_meant(key, one.value)}"
            mistakes.append(_at(section, name, given, f"[{section}] {said}"))
    if not mistakes:
        config = _built(path, values)
        mistakes += [
            _at(section, name, given, f"[{section}] {sentence}") for section, name, sentence in _contradictions(config)
        ]
    if mistakes:
        raise ConfigError(told(mistakes, raw, path.name))
    return config


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; copy the one that ships with lakegate (cp {shipped('config.toml')} .; every key in it is optional), "
            "name yours with --config PATH or LAKEGATE_CONFIG, or see `lakegate demo`"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def _parsed(raw: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(raw)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line, column = _place_of_syntax_error(raw, error)
        what = str(error).split(" (at ")[0]
        raise ConfigError(
            f"{path.name}:{line}:{column} is not TOML: {what[:1].lower()}{what[1:]}\n{counted(1)}"
        ) from None


def _place_of_syntax_error(raw: str, error: Exception) -> tuple[int, int]:
    words = str(error).rstrip(")").replace(",", "").split()
    if "(at" in words and words[-1].isdigit() and words[-3].isdigit():
        return int(words[-3]), int(words[-1])
    return len(raw.rstrip("\n").split("\n")), len(raw.rstrip("\n").split("\n")[-1]) + 1


def _chosen_sources(
    document: Mapping[str, Any], environ: Mapping[str, str], folder: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    # Which sections there are depends on [sources], which is therefore read before all others; its mistakes are told with theirs.
    section = document.get("sources")
    given = dict(section) if isinstance(section, dict) else {}
    given |= {name: _value_of(text) for _, of, name, text in _overrides(environ) if of == "sources"}
    chosen = {}
    for key in OWN["sources"]:
        try:
            chosen[key.name] = key.kind.read(given.get(key.name, key.default))
        except UnfitError:
            chosen[key.name] = key.default
    return tuple(str(_placed(folder, path)) for path in chosen["paths"]), chosen["without"]


def _without(sections: Collection[str], environ: Mapping[str, str]) -> Mapping[str, str]:
    left = {variable for variable, section, _, _ in _overrides(environ) if section in sections}
    return {variable: text for variable, text in environ.items() if variable not in left}


def _collected(
    document: Mapping[str, Any], environ: Mapping[str, str], known: Mapping[str, tuple[Key, ...]]
) -> tuple[dict[tuple[str, str], _Given], list[Mistake]]:
    given, mistakes = dict[tuple[str, str], _Given](), list[Mistake]()
    for section, keys in document.items():
        if section not in known:
            holders = [s for s, own in known.items() if section in {k.name for k in own}]
            hint = (
                f"; it belongs to [{holders[0]}]"
                if holders and not isinstance(keys, dict)
                else did_you_mean(section, known)
            )
            name = f"[{section}]" if isinstance(keys, dict) else section
            mistakes.append(Mistake(sentence=f"{name} is not a section{hint}", at=(section,)))
        elif not isinstance(keys, dict):
            value = "" if any(key.is_secret for key in known[section]) else f" = {_shown(keys)}"
            mistakes.append(Mistake(sentence=f"{section}{value} is not a section; write [{section}]", at=(section,)))
        else:
            for name, value in keys.items():
                if wrong := _unknown(section, name, known):
                    mistakes.append(Mistake(sentence=wrong, at=(section, name)))
                else:
                    given[section, name] = _Given(value=value)
    for variable, section, name, text in _overrides(environ):
        if section not in known:
            mistakes.append(
                Mistake(sentence=f"[{section}] is not a section{did_you_mean(section, known)}", variable=variable)
            )
        elif wrong := _unknown(section, name, known):
            mistakes.append(Mistake(sentence=wrong, variable=variable))
        else:
            given[section, name] = _Given(value=_value_of(text), variable=variable, text=text)
    return given, mistakes


def _overrides(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    for variable, text in sorted(environ.items()):
        section, separator, name = variable.removeprefix(PREFIX).lower().partition("__")
        if variable.startswith(PREFIX) and separator:
            yield variable, section, name, text


def _value_of(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, KeyError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _unknown(section: str, name: str, every: Mapping[str, tuple[Key, ...]]) -> str:
    known = [k.name for k in every[section]]
    if name in known:
        return ""
    elsewhere = [s for s, keys in every.items() if name in {k.name for k in keys}]
    hint = did_you_mean(name, known) or (
        f"; there is one in [{elsewhere[0]}]" if elsewhere else f"; there are {', '.join(known)}"
    )
    return f"[{section}] {name} is not a key{hint}"


def _shown(value: Any) -> str:
    text = mask_secrets(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 60 else text[:57] + "…"


def _meant(key: Key, value: Any) -> str:
    if key.kind.phrase.endswith(")") and isinstance(value, str):  # a choice names its words within parentheses
        return did_you_mean(value, key.kind.phrase.rpartition("(")[2].rstrip(")").split(", "))
    return ""


def _placed(folder: Path, value: str) -> Path:
    # Dots are taken out by name, links are not followed: where a link points to is the operator's choice and may change.
    return Path(os.path.normpath(folder / Path(value).expanduser()))


def _built(path: Path, values: Mapping[str, Mapping[str, Any]]) -> Config:
    folder = path.parent

    def place(section: str, name: str, otherwise: Path | None = None) -> Path:
        value = values[section][name]
        if value is None and otherwise is not None:
            return otherwise
        return _placed(folder, str(value))

    landing, log_path = place("landing", "path"), place("log", "path")
    own = values["landing"]
    spark = {name: value for name, value in values["spark"].items() if name != "jars_path"}
    return Config(
        path=path,
        landing=Landing(
            path=landing,
            trigger_path=place("landing", "trigger_path", landing / "trigger"),
            claim_path=place("landing", "claim_path", landing / ".claim"),
            archive_path=place("landing", "archive_path"),
            rejected_path=place("landing", "rejected_path"),
            missing_file_timeout_seconds=own["missing_file_timeout_seconds"],
            allow_world_writable=own["allow_world_writable"],
            ignore=own["ignore"],
            bare_date=own["bare_date"],
        ),
        debounce=Debounce(**values["debounce"]),
        dispatch=Dispatch(**values["dispatch"]),
        retry=Retry(**values["retry"]),
        ledger_path=place("ledger", "path"),
        log=Log(path=log_path, level=values["log"]["level"]),
        alerts=Alerts(**values["alerts"]),
        settings=Settings(
            lake_path=str(place("lake", "path")),
            keep_days=values["lake"]["keep_days"],
            **spark,
            jars_path=str(place("spark", "jars_path")) if values["spark"]["jars_path"] else "",
            log_path=str(log_path.with_name("spark.log")),
            quality=Quality(**values["quality"]),
            sources={name: dict(keys) for name, keys in values.items() if name not in OWN},
            source_paths=tuple(str(_placed(folder, one)) for one in values["sources"]["paths"]),
            without=values["sources"]["without"],
        ),
    )


def _contradictions(config: Config) -> Iterator[tuple[str, str, str]]:
    """Tells (section, key, sentence) for values that are fine alone and wrong together."""
    if config.debounce.max_wait_seconds < config.debounce.quiet_seconds:
        yield (
            "debounce",
            "max_wait_seconds",
            f"max_wait_seconds is less than quiet_seconds ({config.debounce.quiet_seconds:g})",
        )
    if config.retry.max_seconds < config.retry.initial_seconds:
        yield "retry", "max_seconds", f"max_seconds is less than initial_seconds ({config.retry.initial_seconds:g})"
    if config.settings.engine == "connect" and not config.settings.remote:
        yield (
            "spark",
            "engine",
            'engine = "connect" needs remote, the address of the server: remote = "sc://host:15002"',
        )
    if config.settings.engine != STREAMING_ENGINE:
        for source in streaming(catalog(config.settings.source_paths, config.settings.without), config.settings):
            need = f"{source.stream} = true needs the engine {STREAMING_ENGINE}, and this is {config.settings.engine}"
            yield (
                source.name,
                source.stream,
                f'{need}; set [spark] engine = "{STREAMING_ENGINE}", or {source.stream} = false and deliver with triggers',
            )
    if unusable := next(
        (c for c in config.settings.lake_path if c in UNUSABLE_IN_LAKE_PATH or not c.isprintable()), ""
    ):
        yield (
            "lake",
            "path",
            f"path must not contain {unusable!r}: readers of Delta tables take it for a pattern or an escape ({config.settings.lake_path})",
        )
    shipped_sources = [s.name for s in catalog()]
    for name in config.settings.without:
        if name not in shipped_sources:
            hint = did_you_mean(name, shipped_sources) or f"; there are {', '.join(shipped_sources)}"
            yield "sources", "without", f"without names {name}, which is no source that ships{hint}"
    yield from _collisions(config)


def _collisions(config: Config) -> Iterator[tuple[str, str, str]]:
    landing = config.landing
    folders = {
        ("landing", "path"): landing.path,
        ("landing", "trigger_path"): landing.trigger_path,
        ("landing", "claim_path"): landing.claim_path,
        ("landing", "archive_path"): landing.archive_path,
        ("landing", "rejected_path"): landing.rejected_path,
        ("lake", "path"): Path(config.settings.lake_path),
    }
    seen: dict[Path, tuple[str, str]] = {}
    for (section, name), folder in folders.items():
        if folder in seen:
            other = seen[folder]
            yield section, name, f"{name} is the same folder as [{other[0]}] {other[1]} ({folder})"
        seen.setdefault(folder, (section, name))
    deep = (landing.claim_path, landing.archive_path, landing.rejected_path, Path(config.settings.lake_path))
    watched = (("path", landing.path), ("trigger_path", landing.trigger_path))
    for name, folder in watched:
        inside = [own for own in deep if folder.is_relative_to(own) and own not in (landing.path, landing.trigger_path)]
        if inside:
            yield "landing", name, f"{name} lies within {inside[0]}, where lakegate keeps its own files"
    for section, file in (("ledger", config.ledger_path), ("log", config.log.path)):
        if file.parent in (landing.path, landing.trigger_path, *deep):
            yield (
                section,
                "path",
                f"path lies directly in {file.parent}, where it would be taken for a delivery or table; give it a folder of its own",
            )


def _at(section: str, name: str, given: Mapping[tuple[str, str], _Given], sentence: str) -> Mistake:
    variable = given[section, name].variable if (section, name) in given else ""
    return Mistake(sentence=sentence, at=(section, name), variable=variable, of_value=True)
