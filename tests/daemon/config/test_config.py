"""The configuration: its defaults, its overrides, and the messages about its mistakes."""

import ast
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from source_code import MODULES, PROJECT, nodes

from daemon.config.config import Config, ConfigError
from daemon.config.load import load_config
from daemon.config.options import sections

SHIPPED = PROJECT / "config.toml"


def loaded(folder: Path, text: str = "", **environ: str) -> Config:
    (folder / "config.toml").write_text(text)
    return load_config(folder / "config.toml", environ)


def mistakes(folder: Path, text: str = "", **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **environ)
    return [" ".join(line.split()) for line in str(caught.value).splitlines()]


def test_every_section_and_key_may_be_left_out(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert config.landing.path == tmp_path / "landing"
    assert config.landing.trigger_path == tmp_path / "landing" / "trigger"
    assert config.landing.claim_path == tmp_path / "landing" / ".claim"
    assert config.settings.engine == "spark"
    assert config.settings.lake_path == str(tmp_path / "lake")


def test_trigger_and_claim_follow_the_landing_folder(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[landing]\npath = "/data/in"')
    assert (config.landing.trigger_path, config.landing.claim_path) == (
        Path("/data/in/trigger"),
        Path("/data/in/.claim"),
    )


def test_relative_paths_are_relative_to_the_file_and_not_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "config.toml").write_text('[lake]\npath = "../lake"\n[ledger]\npath = "./state/l.sqlite"')
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("site/config.toml"), {})
    assert config.settings.lake_path == str(tmp_path / "lake")
    assert config.ledger_path == tmp_path / "site" / "state" / "l.sqlite"


def test_the_shipped_file_holds_every_key_with_its_default(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    given = tomllib.loads(text)
    assert set(given) == set(sections())
    for section, keys in sections().items():
        assert list(given[section]) == [k.name for k in keys if k.default is not None], section
        for key in keys:
            if key.default is None:
                assert f"\n# {key.name} = " in text, f"[{section}] {key.name} is not shown"
            else:
                assert key.value_type.parse(given[section][key.name]) == key.value_type.parse(key.default), (
                    f"[{section}] {key.name}"
                )
    assert load_config(SHIPPED, {}).settings.quality == loaded(tmp_path).settings.quality


def test_the_shipped_file_explains_every_key() -> None:
    lines = SHIPPED.read_text().splitlines()
    for section, keys in sections().items():
        for key in keys:
            shown = [n for n, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{key.name} = ")]
            assert any(lines[n - 1].startswith("# ") for n in shown), f"[{section}] {key.name}"


def test_every_key_that_a_message_or_a_page_names_exists() -> None:
    texts = [n.value for p in MODULES for n in nodes(p) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    texts += [p.read_text() for p in (*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), SHIPPED)]
    options = {section: {option.name for option in some} for section, some in sections().items()}
    named = {m.groups() for text in texts for m in re.finditer(rf"\[({'|'.join(options)})\] (\w+)", text)}
    assert len(named) > 20
    assert {f"[{section}] {key}" for section, key in named if key not in options[section]} == set()


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "[debounce]\nquiet_seconds = 9\n[spark]\nengine = 'spark'",
        LAKEGATE_DEBOUNCE__QUIET_SECONDS="0.5",
        LAKEGATE_SPARK__ENGINE="sail",
        LAKEGATE_SPARK__CONF='{"spark.sql.shuffle.partitions": 3}',
        LAKEGATE_ALERTS__URLS='["json://localhost"]',
        LAKEGATE_RETAIL__CURRENCY="EUR",
        LAKEGATE_LANDING__PATH="2026",
        LAKEGATE_CONFIG="elsewhere.toml",
        LAKEGATE_TEST_ENGINES="sail",
    )
    assert config.debounce.quiet_seconds == 0.5
    assert config.settings.engine == "sail"
    assert config.settings.conf == {"spark.sql.shuffle.partitions": "3"}
    assert config.alerts.urls == ("json://localhost",)
    assert config.settings.sources["retail"]["currency"] == "EUR"
    assert config.landing.path == tmp_path / "2026"


def test_a_day_may_be_written_as_a_date_or_as_text(tmp_path: Path) -> None:
    days = [
        loaded(tmp_path, text, **over).settings.quality.min_event_time
        for text, over in (
            ("", {}),
            ("[quality]\nmin_event_time = 1900-01-01", {}),
            ("[quality]\nmin_event_time = '1900-01-01'", {}),
            ("", {"LAKEGATE_QUALITY__MIN_EVENT_TIME": "1900-01-01"}),
        )
    ]
    assert days == [dt.date(1971, 1, 1), *[dt.date(1900, 1, 1)] * 3]


def test_a_sources_keys_have_its_declared_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path).settings.sources["retail"] == {"profit_margin": 0.3, "currency": "USD"}
    assert loaded(tmp_path, "[retail]\nprofit_margin = 0.25").settings.sources["retail"]["profit_margin"] == 0.25


def test_spark_settings_may_be_written_with_and_without_quotes(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[spark.conf]\n"spark.a.b" = true\nspark.c.d = 1.5\nspark.c.e = "x"')
    assert config.settings.conf == {"spark.a.b": "true", "spark.c.d": "1.5", "spark.c.e": "x"}


def test_all_mistakes_are_reported_at_once_with_their_places(tmp_path: Path) -> None:
    text = '# site\n[debounce]\nquiet_second = 5\n\n[dispatch]\ntimeout_seconds = "soon"\n[lok]\npath = "x"\n'
    assert mistakes(tmp_path, text, LAKEGATE_LANDING__PTH="x", LAKEGATE_LOG__LEVEL="loud") == [
        "config.toml:3:1 [debounce] quiet_second is not a key; did you mean quiet_seconds?",
        'config.toml:6:19 [dispatch] timeout_seconds = "soon" is not a number of seconds above 0',
        "config.toml:7:1 [lok] is not a section; did you mean log?",
        "LAKEGATE_LANDING__PTH [landing] pth is not a key; did you mean path?",
        'LAKEGATE_LOG__LEVEL [log] level = "loud" is not a log level (debug, info, warning, error)',
        "5 mistakes. Nothing was started.",
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("debounce.quiet_seconds = 0", "= 0 is not a number of seconds above 0"),
        ("debounce.quiet_seconds = -1", "= -1 is not a number of seconds above 0"),
        ("debounce.quiet_seconds = true", "= true is not a number of seconds above 0"),
        ("debounce.quiet_seconds = inf", "is not a number of seconds above 0"),
        ("dispatch.poison_after = 1.5", "= 1.5 is not a whole number above 0"),
        ("retry.attempts = 0", "= 0 is not a whole number above 0"),
        ("landing.path = ''", '= "" is not a path'),
        ("landing.path = 3", "= 3 is not a path on this machine"),
        ("lake.path = 'ftp://host/lake'", "is not a path on this machine, or the address of a prefix in a store"),
        (
            "clickstream.stream = true\nlake.path = 's3://bucket/lake'",
            "true needs a lake in a folder, and this one",
        ),
        ("lake.path = 'az://box/lake'", "the engine spark knows no az:// addresses; write abfss://container@account"),
        ("landing.ignore = '*.tmp'", '= "*.tmp" is not a list of texts'),
        ("spark.engine = 'flink'", '= "flink" is not an engine (spark, sail, connect)'),
        ("spark.engine = 'sial'", "did you mean sail?"),
        ("spark.engine = 'connect'", "needs remote"),
        ("spark.driver_memory = 'much'", "is not an amount of memory"),
        ("quality.max_rejected_share = 5", "= 5 is not a share from 0 to 1"),
        ("quality.min_score = 101", "= 101 is not a score from 0 to 100"),
        ("quality.fail_on_high = 1", "= 1 is not true or false"),
        ("quality.min_event_time = 'soon'", '= "soon" is not a date such as 1971-01-01'),
        ("quality.min_event_time = '1971-02-30'", '= "1971-02-30" is not a date such as 1971-01-01'),
        ("quality.min_event_time = 1971-01-01T10:00:00", "is not a date such as 1971-01-01"),
        ("quality.min_event_time = 1971", "= 1971 is not a date such as 1971-01-01"),
        ("metrics.path = ''", '= "" is not a path on this machine'),
        ("metrics.listen = 'localhost'", '= "localhost" is not a host and a port such as 127.0.0.1:9108'),
        ("metrics.listen = '127.0.0.1:70000'", "is not a host and a port"),
        ("metrics.listen = 'http://127.0.0.1:9108'", "is not a host and a port"),
        ("lake.keep_days = -1", "is not a whole number of days"),
        ("quality.path = 1", "[quality] path is not a key; there is one in [landing]"),
        ("retail.profit_margin = 'high'", "is not a number"),
        ("lake = 'lake'", 'lake = "lake" is not a section; write [lake]'),
        ("quiet_seconds = 1", "quiet_seconds is not a section; it belongs to [debounce]"),
    ],
)
def test_a_wrong_value_is_explained(tmp_path: Path, line: str, sentence: str) -> None:
    lines = mistakes(tmp_path, line)
    assert len(lines) == 2
    assert lines[0].startswith("config.toml:1:")
    assert sentence in lines[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "debounce = {quiet_seconds = 9, max_wait_seconds = 5}",
            "config.toml:1:51 [debounce] max_wait_seconds is less than quiet_seconds (9)",
        ),
        (
            "[retry]\ninitial_seconds = 9\nmax_seconds = 5",
            "config.toml:3:15 [retry] max_seconds is less than initial_seconds (9)",
        ),
        (
            "[landing]\narchive_path = 'in/../landing'",
            "config.toml:2:16 [landing] archive_path is the same folder as [landing] path",
        ),
        ("[landing]\nclaim_path = 'landing/trigger'", "claim_path is the same folder as [landing] trigger_path"),
        ("[landing]\ntrigger_path = 'landing'", "trigger_path is the same folder as [landing] path"),
        ("[landing]\nrejected_path = 'archive'", "rejected_path is the same folder as [landing] archive_path"),
        ("[landing]\npath = 'archive/in'", "path lies within"),
        ("[lake]\npath = 'landing'", "[lake] path is the same folder as [landing] path"),
        ("[lake]\npath = 'lake[1]'", "config.toml:2:8 [lake] path must not contain '['"),
        ("[log]\npath = 'landing/log.jsonl'", "[log] path lies directly in"),
        ("[metrics]\npath = 'landing/x.prom'", "[metrics] path lies directly in"),
        (
            "[serve]\nlayers = ['golden']",
            "config.toml:2:10 [serve] layers names golden, which is no layer; did you mean",
        ),
        ("[serve]\nlayers = ['x']", "[serve] layers names x, which is no layer; there are gold, silver, bronze"),
        ("[serve]\nprefix = 'mnt/lake'", "[serve] prefix must be an absolute path without characters of patterns"),
    ],
)
def test_values_that_contradict_each_other_are_mistakes(tmp_path: Path, text: str, sentence: str) -> None:
    assert any(sentence in line for line in mistakes(tmp_path, text))


def test_the_archive_may_lie_below_the_landing_folder(tmp_path: Path) -> None:
    assert (
        loaded(tmp_path, "[landing]\narchive_path = 'landing/archive'").landing.archive_path
        == tmp_path / "landing" / "archive"
    )


@pytest.mark.parametrize(
    ("text", "place"), [("[landing\npath = 1", "1:9"), ("[log]\nlevel = 'x", "2:11"), ("a = [" * 5000, "1:")]
)
def test_a_toml_error_is_reported_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    lines = mistakes(tmp_path, text)
    assert lines[0].startswith(f"config.toml:{place}")
    assert "is not TOML" in lines[0]
    assert lines[-1] == "1 mistake. Nothing was started."


def test_a_file_with_a_byte_order_mark_and_one_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf[debounce]\nquiet_seconds = 2\n")
    assert load_config(path, {}).debounce.quiet_seconds == 2
    path.write_bytes("[log]\npath = 'Größe'".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path, {})


def test_the_message_about_a_missing_file_explains_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such file; `lakegate init` writes one, --config PATH or"):
        load_config(tmp_path / "config.toml", {})


def test_columns_are_counted_in_characters(tmp_path: Path) -> None:
    assert mistakes(tmp_path, 'landing = {path = "Grüße", quiet = 1}')[0].startswith("config.toml:1:28 ")


def test_the_configuration_costs_the_daemon_little() -> None:
    program = (
        "import json, sys; from daemon.config.load import load_config; from pathlib import Path;"
        "load_config(Path(sys.argv[1]), {});"
        "heavy = {'pyspark', 'pyarrow', 'pydantic', 'duckdb', 'deltalake', 'numpy', 'tree_sitter', 'click', 'rich'};"
        "heavy &= set(sys.modules);"
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'));"
        "print(json.dumps([sorted(heavy), int(peak)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(SHIPPED)],
        capture_output=True,
        text=True,
        check=True,
        cwd=SHIPPED.parent,
        env={**os.environ},
    )
    heavy, kilobytes = json.loads(done.stdout)
    assert heavy == []
    assert kilobytes < 40_000


def test_a_variable_with_one_underscore_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"LAKEGATE_LANDING_PATH": "x", "LAKEGATE_CONFIG": "y", "LAKEGATE_TEST_ENGINES": "sail"})
    sentence = "LAKEGATE_LANDING_PATH has no effect; write LAKEGATE_LANDING__PATH, with two underscores"
    assert str(caught.value).splitlines() == [sentence, "1 mistake. Nothing was started."]
