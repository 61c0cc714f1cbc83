"""`lakegate check`: its diagnostics with their remedies; and that it changes nothing."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from factories_command import Site
from factories_published import PublishedLake, sale
from factories_services import web_hook

from daemon.cli.check import check
from daemon.cli.checks.diagnostic import BAD, NOTE, OK, Diagnostic
from daemon.cli.main import main
from daemon.files.file_systems import MODELESS, file_system_of
from pipeline.engine.jar_list import DELTA, file_name

DAILY = "retail.gold.daily_sales"
COMMITS_OF_OTHERS = "docs/how-to/commits-of-others.md"
SAIL = '[spark]\nengine = "sail"\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site", SAIL)


def found(site: Site, subject: str, environ: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    return [(f.verdict, f.sentence) for f in check(site.config, environ) if f.subject == subject]


def verdicts(site: Site, subject: str) -> set[str]:
    return {verdict for verdict, _ in found(site, subject)}


def test_a_new_site_is_fine_and_stays_untouched(site: Site) -> None:
    assert [f for f in check(site.config, os.environ) if f.is_bad] == []
    assert [p.name for p in site.root.iterdir()] == ["config.toml"]


def test_it_ends_with_1_when_something_is_bad(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(site.path), "check", "--no-engine"]) == 0
    (site.root / "lake").write_text("")
    assert main(["--config", str(site.path), "check", "--no-engine"]) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bad")]
    assert len(bad) == 1
    assert "is no folder; move it away" in bad[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_without_rights_is_bad(site: Site) -> None:
    landing = site.root / "landing"
    landing.mkdir(mode=0o500)
    assert verdicts(site, "landing") == {BAD}


def test_a_claim_that_others_may_enter_is_noted(site: Site) -> None:
    claim = site.root / "landing" / ".claim"
    claim.mkdir(parents=True, mode=0o755)
    assert verdicts(site, "claim") == {OK, NOTE}
    claim.chmod(0o700)
    assert verdicts(site, "claim") == {OK}


def test_a_claim_on_another_file_system_is_noted(tmp_path: Path, other_disk: Path) -> None:
    assert verdicts(Site(tmp_path / "a", SAIL), "moves") == {OK}
    site = Site(tmp_path / "b", f'{SAIL}[landing]\nclaim_path = "{other_disk}/lakegate-claim"\n')
    assert found(site, "moves")[0][0] == NOTE
    assert "claim on another file system" in found(site, "moves")[0][1]


def test_a_lake_with_links_shows_whole_batches_to_readers(site: Site) -> None:
    lake = site.root / "lake"
    assert found(site, "readers") == [(OK, f"whole batches in {lake}/published and in {lake}/<source>.duckdb")]
    lake.mkdir()
    assert verdicts(site, "readers") == {OK}
    assert list(lake.iterdir()) == []


def test_a_file_system_that_refuses_links_is_noted_with_what_takes_their_place(site: Site, other_disk: Path) -> None:
    lake = site.root / "lake"
    lake.mkdir()
    (lake / "published").symlink_to(other_disk)
    kind = file_system_of(other_disk)
    sentence = (
        f"{lake}/published cannot be made, because {kind} refuses links (Invalid cross-device link); readers use "
        f"{lake}/<source>.duckdb or `lakegate sql`: docs/how-to/read-tables.md"
    )
    assert found(site, "readers") == [(NOTE, sentence)]


def test_readers_of_an_earlier_batch_are_noted_when_no_layer_is_served(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", f"{SAIL}[serve]\nlayers = []\n")
    assert verdicts(site, "readers") == {OK}
    (site.root / "lake" / "published").mkdir(parents=True)
    assert verdicts(site, "readers") == {OK, NOTE}
    assert "shows an earlier batch" in found(site, "readers")[1][1]


def test_the_limits_of_an_engine_are_noted(site: Site) -> None:
    assert any(verdict == NOTE and "cannot stream" in sentence for verdict, sentence in found(site, "engine"))
    assert found(site, "java") == []


def test_without_a_java_the_engine_spark_is_bad_and_a_remedy_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", f'[spark]\njars_path = "{tmp_path}/jars"\n')
    (tmp_path / "old" / "bin").mkdir(parents=True)
    java = tmp_path / "old" / "bin" / "java"
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    (tmp_path / "old" / "release").write_text('JAVA_VERSION="11.0.2"\n')
    diagnostics = found(site, "java", {"JAVA_HOME": str(tmp_path / "old"), "PATH": ""})
    assert any("Java 11 is too old" in sentence for _, sentence in diagnostics)
    [(verdict, sentence)] = found(site, "jars")
    assert (verdict, "[spark] jars_path" in sentence) == (BAD, True)


def test_class_data_that_is_not_saved_is_noted(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", f'[spark]\njars_path = "{tmp_path}/jars"\n')
    (tmp_path / "jars").mkdir()
    for name in map(file_name, DELTA):
        (tmp_path / "jars" / name).touch()
    assert any(
        verdict == NOTE and "`python -m pipeline.engine.class_data_sharing` does it" in sentence
        for verdict, sentence in found(site, "java")
    )


def test_a_server_that_does_not_answer_is_bad(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", '[spark]\nengine = "connect"\nremote = "sc://localhost:1"\n')
    [(verdict, sentence)] = found(site, "engine")
    assert verdict == BAD
    assert "sc://localhost:1 does not answer" in sentence


def test_a_command_that_is_not_there_is_bad(tmp_path: Path) -> None:
    assert verdicts(Site(tmp_path / "a", '[dispatch]\non_published = ["sh", "-c", "true"]\n'), "command") == {OK}
    assert verdicts(Site(tmp_path / "b", '[dispatch]\non_published = ["no-such-program"]\n'), "command") == {BAD}


@pytest.mark.filterwarnings(
    "ignore:'imghdr' is deprecated:DeprecationWarning"
)  # apprise's e-mail looks for a module of older Pythons
def test_a_wrong_alert_address_is_bad_and_its_password_is_not_shown(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", '[alerts]\nurls = ["nonsense://user:secret@host"]\n')
    [(verdict, sentence)] = found(site, "alerts")
    assert (verdict, "secret" in sentence) == (BAD, False)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_alerts_to_unknown_sources_and_to_nowhere_are_bad(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", '[alerts.routes]\nretial = ["json://localhost/hook"]\n')
    assert found(site, "alerts") == [
        (OK, "address 1 (json) localhost"),
        (BAD, "[alerts] routes names retial; there are clickstream, crm_erp, retail"),
        (BAD, "alerts about clickstream, crm_erp, retail have no address; add one to [alerts] urls or routes"),
    ]


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_a_trial_reaches_every_address_and_says_which_took_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with web_hook() as (hook, received):
        silent = "mailto://me:hunter2-hunter2@127.0.0.1:1?from=a@example.com&to=b@example.com"
        urls = json.dumps([hook, silent])
        (tmp_path / "config.toml").write_text(f"[alerts]\nurls = {urls}\n")
        assert main(["--config", str(tmp_path / "config.toml"), "check", "--alerts"]) == 1
    assert [(r["type"], "TRIAL this address receives alerts" in r["title"]) for r in received] == [("info", True)]
    taken, refused = capsys.readouterr().out.splitlines()
    assert taken == "ok    alerts      address 1 (json) 127.0.0.1 took the trial message"
    assert refused.startswith("bad   alerts      address 2 (mailto) to b@example.com did not take the trial message: ")
    assert "Connection refused" in refused
    assert "hunter2" not in refused


def test_a_trial_without_an_address_says_how_to_add_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text("")
    assert main(["--config", str(tmp_path / "config.toml"), "check", "--alerts"]) == 1
    assert '[alerts] urls = ["mailto://…"]' in capsys.readouterr().out


def test_a_running_daemon_is_named(site: Site) -> None:
    (site.root / "landing").mkdir()
    descriptor = os.open(site.root / "landing", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert found(site, "daemon") == [(OK, f"running, process {os.getpid()}")]
    os.close(descriptor)
    assert found(site, "daemon") == [(OK, "not running")]


def test_a_survivor_that_still_writes_is_noted(site: Site) -> None:
    (site.root / "lake").mkdir()
    descriptor = os.open(site.root / "lake" / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert any("still writes to the lake" in sentence for _, sentence in found(site, "lake"))
    os.close(descriptor)


def test_another_programs_commit_is_bad_and_an_unfinished_attempt_is_noted(site: Site) -> None:
    lake = PublishedLake(site.root / "lake")
    lake.create(DAILY)
    lake.publish("retail", {DAILY: lake.write(DAILY, [sale(1)])})
    assert found(site, "tables") == [(OK, "2 published")]
    lake.write(DAILY, [sale(2)])
    assert [v for v, _ in found(site, "tables")] == [OK, BAD]
    sentence = found(site, "tables")[1][1]
    assert f"{DAILY} has version 2, published is 1: another program's commit" in sentence
    assert COMMITS_OF_OTHERS in sentence
    assert (Path(__file__).parents[3] / COMMITS_OF_OTHERS).exists()
    (site.root / "lake" / "_journal").mkdir()
    (site.root / "lake" / "_journal" / "b2.json").write_text("{}")
    assert [v for v, _ in found(site, "tables")] == [OK, NOTE]


def test_a_check_that_fails_is_a_diagnostic_and_the_others_still_run(site: Site) -> None:
    log = site.root / "lake" / "ops" / "batches" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text("this is no commit\n")
    diagnostics = check(site.config, os.environ)
    assert [f.subject for f in diagnostics if f.is_bad] == ["tables"]
    assert "\n" not in next(f.sentence for f in diagnostics if f.is_bad)
    assert {"python", "engine", "space"} <= {f.subject for f in diagnostics}


def test_a_claim_on_a_file_system_without_modes_is_bad(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.config.landing.path.mkdir(parents=True)
    monkeypatch.setitem(MODELESS, file_system_of(site.root), frozenset())  # as if it were exFAT
    sentence = [(v, s) for v, s in found(site, "claim") if v != OK]
    claim = site.config.landing.claim_path
    remedy = "this file system keeps no modes; set [landing] claim_path to a folder on a local disk"
    assert sentence == [(BAD, f"{claim} stays open to other users: {remedy}")]
    claim.mkdir(mode=0o700)
    assert [v for v, _ in found(site, "claim")] == [OK]
    claim.chmod(0o750)
    assert [v for v, _ in found(site, "claim")] == [OK, BAD]


def test_a_diagnostic_is_one_line() -> None:
    assert (
        Diagnostic(subject="java", verdict=BAD, sentence="there is none").as_line() == "bad   java        there is none"
    )
