"""Reads config.toml and the environment into one Config, or reports all problems at once. Writes nothing to disk."""

import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.config.build import absolute, build_config
from daemon.config.config import Config, ConfigError
from daemon.config.consistency import contradictions
from daemon.config.options import OPTIONS, ConfigOption, sections, unknown_sections
from daemon.config.problems import ConfigProblem, count_line, did_you_mean, format_problems
from daemon.config.value_types import InvalidValueError
from pipeline.contract import mask_secrets

PREFIX = "LAKEGATE_"
LONGEST_SHOWN_VALUE = 60  # characters

Sections = Mapping[str, tuple[ConfigOption, ...]]


@dataclass(frozen=True, kw_only=True)
class _Override:
    """A variable `LAKEGATE_<SECTION>__<KEY>` of the environment."""

    variable: str
    section: str
    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class _Input:
    """A value from the file, or from the environment: then with its variable and its literal text."""

    value: Any
    variable: str = ""
    text: str = ""


Inputs = dict[tuple[str, str], _Input]  # by section and key


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Returns the configuration of a file, with the overrides of an environment.

    Raises ConfigError with every problem.
    """
    path = path.expanduser().absolute()
    text = _read_text(path)
    document = _parse_toml(text, path)
    paths, exclude = _source_selection(document, environ, path.parent)
    known = sections(paths, exclude)
    unknown = unknown_sections(paths, exclude)
    document = {section: values for section, values in document.items() if section not in unknown}
    inputs, problems = _collect_inputs(document, _without_overrides_of(unknown, environ), known)
    values, invalid = _parse_values(inputs, known)
    problems += invalid
    if not problems:
        config = build_config(path, values)
        for section, name, sentence in contradictions(config):
            problems.append(_value_problem(section, name, inputs, f"[{section}] {sentence}"))
    if problems:
        raise ConfigError(format_problems(problems, text, path.name))
    return config


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        ways = "`lakegate init` writes one, --config PATH or LAKEGATE_CONFIG name another"
        raise ConfigError(f"{path}: there is no such file; {ways}, and `lakegate demo` needs none") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line, column = _position_of_syntax_error(text, error)
        reason = str(error).split(" (at ")[0]
        sentence = f"{path.name}:{line}:{column} is not TOML: {reason[:1].lower()}{reason[1:]}"
        raise ConfigError(f"{sentence}\n{count_line(1)}") from None


def _position_of_syntax_error(text: str, error: Exception) -> tuple[int, int]:
    # tomllib gives the position only within its message: "… (at line 1, column 9)" or "… (at end of document)".
    words = str(error).rstrip(")").replace(",", "").split()
    if "(at" in words and words[-1].isdigit() and words[-3].isdigit():
        return int(words[-3]), int(words[-1])
    lines = text.rstrip("\n").split("\n")
    return len(lines), len(lines[-1]) + 1


def _source_selection(
    document: Mapping[str, Any], environ: Mapping[str, str], folder: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    # The section [sources] decides which other sections exist, so it is read first. Its problems are reported later,
    # with those of all sections.
    section = document.get("sources")
    values = dict(section) if isinstance(section, dict) else {}
    values |= {o.name: _value_from_text(o.text) for o in _overrides(environ) if o.section == "sources"}
    selection = {}
    for option in OPTIONS["sources"]:
        try:
            selection[option.name] = option.value_type.parse(values.get(option.name, option.default))
        except InvalidValueError:
            selection[option.name] = option.default
    return tuple(str(absolute(folder, path)) for path in selection["paths"]), selection["exclude"]


def _without_overrides_of(sections: Collection[str], environ: Mapping[str, str]) -> Mapping[str, str]:
    dropped = {o.variable for o in _overrides(environ) if o.section in sections}
    return {variable: text for variable, text in environ.items() if variable not in dropped}


def _collect_inputs(
    document: Mapping[str, Any], environ: Mapping[str, str], known: Sections
) -> tuple[Inputs, list[ConfigProblem]]:
    inputs: Inputs = {}
    problems = list[ConfigProblem]()
    for section, values in document.items():
        if sentence := _section_problem(section, values, known):
            problems.append(ConfigProblem(sentence=sentence, key_path=(section,)))
            continue
        for name, value in values.items():
            if sentence := _key_problem(section, name, known):
                problems.append(ConfigProblem(sentence=sentence, key_path=(section, name)))
            else:
                inputs[section, name] = _Input(value=value)
    for o in _overrides(environ):
        if o.section not in known:
            sentence = f"[{o.section}] is not a section{did_you_mean(o.section, known)}"
            problems.append(ConfigProblem(sentence=sentence, variable=o.variable))
        elif sentence := _key_problem(o.section, o.name, known):
            problems.append(ConfigProblem(sentence=sentence, variable=o.variable))
        else:
            inputs[o.section, o.name] = _Input(value=_value_from_text(o.text), variable=o.variable, text=o.text)
    for section, options in known.items():
        for name in (o.name for o in options):
            variable = f"{PREFIX}{section}_{name}".upper()
            if variable in environ:
                sentence = f"has no effect; write {PREFIX}{section.upper()}__{name.upper()}, with two underscores"
                problems.append(ConfigProblem(sentence=sentence, variable=variable))
    return inputs, problems


def _overrides(environ: Mapping[str, str]) -> Iterator[_Override]:
    for variable, text in sorted(environ.items()):
        section, separator, name = variable.removeprefix(PREFIX).lower().partition("__")
        if variable.startswith(PREFIX) and separator:
            yield _Override(variable=variable, section=section, name=name, text=text)


def _value_from_text(text: str) -> Any:
    # The text of a variable is a TOML value, a JSON value, or plain text.
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, KeyError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _section_problem(section: str, values: Any, known: Sections) -> str:
    """Returns a sentence when a top-level name of the file is not a section, else ""."""
    is_table = isinstance(values, dict)
    if section not in known:
        owners = [s for s, options in known.items() if section in {o.name for o in options}]
        hint = f"; it belongs to [{owners[0]}]" if owners and not is_table else did_you_mean(section, known)
        return f"{f'[{section}]' if is_table else section} is not a section{hint}"
    if not is_table:
        has_secret = any(option.is_secret for option in known[section])
        return f"{section}{'' if has_secret else f' = {_shown(values)}'} is not a section; write [{section}]"
    return ""


def _key_problem(section: str, name: str, known: Sections) -> str:
    """Returns a sentence when a section has no such key, else ""."""
    names = [option.name for option in known[section]]
    if name in names:
        return ""
    others = [s for s, options in known.items() if name in {o.name for o in options}]
    hint = f"; there is one in [{others[0]}]" if others else f"; there are {', '.join(names)}"
    return f"[{section}] {name} is not a key{did_you_mean(name, names) or hint}"


def _parse_values(inputs: Inputs, known: Sections) -> tuple[dict[str, dict[str, Any]], list[ConfigProblem]]:
    """Returns the checked values by section and key, defaults included, and the problems of the others."""
    values = {section: {o.name: o.default for o in options} for section, options in known.items()}
    problems = []
    for (section, name), given in inputs.items():
        option = next(o for o in known[section] if o.name == name)
        value_type = option.value_type
        try:
            values[section][name] = value_type.parse(
                given.text if value_type.is_text and given.variable else given.value
            )
        except InvalidValueError:
            sentence = f"[{section}] {_value_sentence(option, given.value)}"
            problems.append(_value_problem(section, name, inputs, sentence))
    return values, problems


def _value_sentence(option: ConfigOption, value: Any) -> str:
    value_type = option.value_type
    if option.is_secret:
        return f"{option.name} is not {value_type.phrase} (its value may be a secret, and is not shown)"
    hint = did_you_mean(value, value_type.choices) if isinstance(value, str) else ""
    return f"{option.name} = {_shown(value)} is not {value_type.phrase}{hint}"


def _value_problem(section: str, name: str, inputs: Inputs, sentence: str) -> ConfigProblem:
    variable = inputs[section, name].variable if (section, name) in inputs else ""
    return ConfigProblem(sentence=sentence, key_path=(section, name), variable=variable, points_to_value=True)


def _shown(value: Any) -> str:
    text = mask_secrets(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= LONGEST_SHOWN_VALUE else text[: LONGEST_SHOWN_VALUE - 3] + "…"
