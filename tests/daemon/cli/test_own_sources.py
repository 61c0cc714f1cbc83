"""External sources in the daemon and the command: their settings, their files, the messages about a broken one."""

import json
import os
from pathlib import Path

import pytest
from factories_command import Site
from factories_daemon import WORKER, Zone
from factories_published import PublishedLake, sale
from factories_source import FEEDS, changed, kiosk

from daemon import service
from daemon.cli import systemd_unit
from daemon.cli.check import check
from daemon.cli.checks.diagnostic import BAD, OK
from daemon.cli.main import main
from daemon.config.config import ConfigError
from daemon.config.load import load_config
from pipeline import contract

DAILY = "kiosk.gold.daily_sales"
BROKEN = changed(FEEDS, "KIOSK = Source(", "KIOSK = Sauce(")
OWN = '[spark]\nengine = "sail"\n[sources]\npaths = ["own/kiosk"]\n'


def site(root: Path, feeds: str = FEEDS, more: str = "") -> Site:
    kiosk(root / "own", feeds)
    return Site(root, OWN + more)


def findings(site: Site) -> list[tuple[str, str]]:
    return [(f.verdict, f.sentence) for f in check(site.config, os.environ) if f.subject == "sources"]


# ---- the configuration


def test_folders_are_relative_to_the_configuration_and_reach_the_worker(tmp_path: Path) -> None:
    settings = site(tmp_path).config.settings
    assert settings.source_paths == (str(tmp_path / "own" / "kiosk"),)
    assert contract.from_json(contract.to_json(settings)) == settings


def test_an_own_source_has_its_section_with_declared_defaults(tmp_path: Path) -> None:
    assert site(tmp_path / "a").config.settings.sources["kiosk"] == {"most": 50}
    assert site(tmp_path / "b", more="[kiosk]\nmost = 7\n").config.settings.sources["kiosk"] == {"most": 7}
    with pytest.raises(ConfigError, match=r"config\.toml:6:1 \[kiosk\] mots is not a key; did you mean most\?"):
        assert site(tmp_path / "c", more="[kiosk]\nmots = 7\n").config


def test_the_environment_can_name_the_folders_and_their_settings(tmp_path: Path) -> None:
    path = site(tmp_path).path
    path.write_text("")
    given = {"LAKEGATE_SOURCES__PATHS": '["own/kiosk"]', "LAKEGATE_KIOSK__MOST": "9"}
    assert load_config(path, given).settings.sources["kiosk"] == {"most": 9}


def test_the_section_of_a_broken_source_is_not_read_and_is_no_mistake(tmp_path: Path) -> None:
    broken = site(tmp_path, BROKEN, "[kiosk]\nmost = 'whatever'\n")
    assert "kiosk" not in broken.config.settings.sources
    assert "retail" in load_config(broken.path, {"LAKEGATE_KIOSK__MOST": "9"}).settings.sources
    broken.path.write_text(broken.path.read_text() + "[kiosks]\nmost = 1\n")
    with pytest.raises(ConfigError, match=r"\[kiosks\] is not a section"):
        assert broken.config


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("paths = 'kiosk'", 'paths = "kiosk" is not a list of texts'),
        ("path = ['kiosk']", "path is not a key; did you mean paths?"),
        ("exclude = ['retial']", "exclude names retial, which is not a shipped source; did you mean retail?"),
    ],
)
def test_a_mistake_in_the_section_sources_is_reported_like_any_other(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        assert Site(tmp_path, f"[sources]\n{line}\n").config
    assert str(caught.value).startswith("config.toml:2:")
    assert sentence in str(caught.value)


def test_a_source_that_is_left_out_may_keep_its_section(tmp_path: Path) -> None:
    assert Site(
        tmp_path, "[sources]\nexclude = ['retail']\n[retail]\nprofit_margin = 0.2\n"
    ).config.settings.exclude == ("retail",)


# ---- check, log, triggers


def test_check_names_what_can_be_used_and_what_is_wrong_with_the_rest(tmp_path: Path) -> None:
    [(verdict, sentence)] = findings(site(tmp_path / "a"))
    assert (verdict, "kiosk (2 feeds)" in sentence) == (OK, True)
    broken = site(tmp_path / "b", BROKEN)
    [(good, usable), (bad, sentence)] = findings(broken)
    assert (good, bad, "kiosk" in usable) == (OK, BAD, False)
    assert sentence == f"kiosk is left out: {broken.root}/own/kiosk/feeds.py:17: NameError: name 'Sauce' is not defined"


def test_without_any_source_there_is_nothing_to_do(tmp_path: Path) -> None:
    every = [s.name for s in contract.catalog()]
    [(verdict, sentence)] = findings(Site(tmp_path / "a", f"[sources]\nexclude = {every}\n"))
    excluded = "the configuration excludes the shipped ones, and [sources] paths names no other"
    assert (verdict, sentence) == (BAD, f"no source is left, so no file can be processed: {excluded}")
    broken = site(tmp_path / "b", BROKEN)
    broken.path.write_text(broken.path.read_text() + f"exclude = {every}\n")
    [(_, cause), (_, consequence)] = findings(broken)
    assert cause.endswith("feeds.py:17: NameError: name 'Sauce' is not defined")
    assert consequence == "no source is left, so no file can be processed"


def test_a_broken_source_is_logged_at_the_start_and_the_others_go_on(tmp_path: Path) -> None:
    kiosk(tmp_path, BROKEN)
    zone = Zone(tmp_path, sources={"paths": ["kiosk"]})
    order = zone.deliver("a")
    zone.put("takings_1.csv")
    zone.land("b", "takings_1.csv")
    assert service.run(zone.config, once=True, quiet=True, command=WORKER) == 1
    [event] = zone.log("source.load_failed")
    assert (event["level"], event["source"]) == ("error", "kiosk")
    assert event["reason"].endswith("kiosk/feeds.py:17: NameError: name 'Sauce' is not defined")
    assert [(o["source"], [f["name"] for f in o["files"]]) for o in zone.orders()] == [("retail", [order])]
    assert "what kiosk would take is not known, `lakegate check` says why" in zone.batch("b").reason


def test_files_of_an_own_source_become_its_batches(tmp_path: Path) -> None:
    kiosk(tmp_path)
    zone = Zone(tmp_path, sources={"paths": ["kiosk"]})
    zone.put("takings_1.csv")
    zone.put("stalls_1.csv", "ok stalls\n")
    zone.touch("monday.done")
    assert service.run(zone.config, once=True, quiet=True, command=WORKER) == 0
    [order] = zone.orders()
    assert (order["source"], sorted(f["feed"] for f in order["files"])) == ("kiosk", ["stalls", "takings"])
    assert zone.log("source.load_failed") == []


def test_tables_of_a_source_that_is_gone_are_noted_and_those_of_a_broken_one_are_not_judged(tmp_path: Path) -> None:
    where = site(tmp_path)
    lake = PublishedLake(tmp_path / "lake")
    lake.create(DAILY)
    lake.publish("kiosk", {DAILY: lake.write(DAILY, [sale(1)])}, fingerprint='{"kiosk.silver.stalls": "an older one"}')
    notes = {
        "there": [f.sentence for f in check(where.config, os.environ) if f.subject == "tables"][1:],
        "broken": [
            f.sentence
            for f in check(site(tmp_path / "b", BROKEN, f'[lake]\npath = "{tmp_path}/lake"\n').config, os.environ)
            if f.subject == "tables"
        ][1:],
        "gone": [
            f.sentence
            for f in check(Site(tmp_path, '[spark]\nengine = "sail"\n').config, os.environ)
            if f.subject == "tables"
        ][1:],
    }
    assert [len(sentence) for sentence in notes.values()] == [1, 0, 1]
    assert "the definition has changed since the newest rows were written" in notes["there"][0]
    assert notes["gone"] == ["kiosk is published, and no source of this name is declared any more"]


def test_a_service_may_read_own_sources_in_a_home(tmp_path: Path) -> None:
    written = systemd_unit.text(Site(tmp_path, "[sources]\npaths = ['/home/ann/kiosk']\n").config)
    assert "\nProtectHome=tmpfs\n" in written
    [seen] = [line for line in written.splitlines() if line.startswith("BindReadOnlyPaths=")]
    assert "-/home/ann/kiosk" in seen.split("=")[1].split()


# ---- `lakegate sources`


def run(capsys: pytest.CaptureFixture[str], where: Site, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["--config", str(where.path), *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_sources_shows_feeds_keys_rules_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, site(tmp_path), "sources")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert lines[0] == "retail comes with lakegate"
    assert f"kiosk {tmp_path}/own/kiosk" in lines
    assert "takings takings_*.csv receipt history by sold_at 4" in lines
    assert "takings something_was_sold HIGH REJECT quantity <= $most" in lines
    assert "takings taking_has_stall HIGH WARN stalls knows stall" in lines
    assert "kiosk.silver.takings receipt, effective_from" in lines
    assert "kiosk.gold.by_stall stall Receipts by stall." in lines


def test_one_source_is_shown_with_its_columns_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [" ".join(line.split()) for line in run(capsys, site(tmp_path), "sources", "kiosk")[1].splitlines()]
    assert "takings quantity INT required" in lines
    assert "stalls place STRING nullable" in lines
    assert "most 50 pieces at most" in lines
    assert not [line for line in lines if "retail" in line]


def test_sources_as_json_holds_everything_that_is_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = site(tmp_path)
    every = json.loads(run(capsys, where, "sources", "--json")[1])
    one = json.loads(run(capsys, where, "sources", "kiosk", "--json")[1])
    assert [s["name"] for s in every] == [s.name for s in contract.catalog(where.config.settings.source_paths)]
    assert one == every[-1]
    assert (one["folder"], one["broken"], one["settings"]) == (
        str(tmp_path / "own" / "kiosk"),
        "",
        [{"name": "most", "default": 50, "meaning": "pieces at most"}],
    )
    takings = one["feeds"][1]
    assert (takings["files"], takings["key"], takings["kept"]) == ("takings_*.csv", ["receipt"], "history by sold_at")
    quantity = {"name": "quantity", "type": "INT", "required": True, "optional": False, "sql": "", "description": ""}
    assert takings["columns"][2] == quantity
    assert [r["name"] for r in takings["rules"]] == ["something_was_sold", "taking_has_stall"]
    assert one["tables"][-1]["grain"] == ["stall"]
    receipts = {"name": "receipts", "type": "BIGINT", "description": "", "sql": "count(*)", "unit": ""}
    assert one["tables"][-1]["columns"][1] == receipts


def test_a_broken_source_is_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = site(tmp_path, BROKEN)
    code, out, _ = run(capsys, where, "sources", "kiosk")
    assert (code, out.splitlines()[1]) == (
        0,
        f"left out: {tmp_path}/own/kiosk/feeds.py:17: NameError: name 'Sauce' is not defined",
    )
    assert json.loads(run(capsys, where, "sources", "--json")[1])[-1]["broken"].endswith("name 'Sauce' is not defined")


def test_a_source_that_is_not_there_is_not_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, site(tmp_path), "sources", "kioks") == (4, "", "there is no source kioks; did you mean kiosk?\n")


def test_a_new_source_is_drafted_beside_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = site(tmp_path)
    monkeypatch.chdir(tmp_path)
    for day in (2, 3):
        (tmp_path / f"guests_2026_03_0{day}.csv").write_text(f"guest_id,name\n{day},Ann\n")
    code, out, err = run(
        capsys,
        where,
        "sources",
        "new",
        "hall",
        "--from",
        "guests_2026_03_02.csv",
        "guests_2026_03_03.csv",
        "--into",
        "own",
    )
    assert (code, out) == (0, '[sources]\npaths = ["own/kiosk", "own/hall"]\n')
    assert err.startswith("own/hall/feeds.py is written: 1 feed, 2 columns.")
    where.path.write_text(out)
    assert "hall (1 feed)" in findings(where)[0][1]
    assert run(capsys, where, "sources", "new", "hall", "--from", "guests_2026_03_02.csv", "--into", "own")[0] == 2


def test_a_source_can_be_drafted_before_anything_is_configured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAKEGATE_CONFIG", raising=False)
    (tmp_path / "guests.csv").write_text("guest_id\n1\n")
    assert main(["sources", "new", "hall", "--from", "guests.csv"]) == 0
    assert capsys.readouterr().out == '[sources]\npaths = ["hall"]\n'


@pytest.mark.parametrize("words", [("new",), ("new", "hall"), ("kiosk", "retail"), ("kiosk", "--from", "x.csv")])
def test_arguments_without_a_meaning_are_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = run(capsys, site(tmp_path), "sources", *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
