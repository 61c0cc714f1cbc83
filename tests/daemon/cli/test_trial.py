"""`lakegate check` with the engine: a real worker takes empty feeds into a scratch lake and reports each mistake."""

import fcntl
import json
import tempfile
from pathlib import Path

import pytest
from factories_command import Site
from factories_source import FEEDS, GOLD, changed, kiosk

from daemon.cli.main import main

RIGHT = "every feed went through all stages without a row"
ALONE = '[sources]\npaths = ["kiosk"]\nexclude = ["retail", "crm_erp", "clickstream"]\n'


def site(root: Path, feeds: str = FEEDS, gold: str = GOLD, engine: str = 'engine = "sail"') -> Site:
    kiosk(root, feeds, gold)
    return Site(root, f"{ALONE}[spark]\n{engine}\n")


def checked(
    capsys: pytest.CaptureFixture[str], where: Site, *arguments: str
) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """Returns the exit code and, by subject, the verdicts with their sentences."""
    code = main(["--config", str(where.path), "check", "--json", *arguments])
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in json.loads(capsys.readouterr().out):
        assert finding.keys() == {"subject", "verdict", "says"}
        found.setdefault(finding["subject"], []).append((finding["verdict"], finding["says"]))
    return code, found


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the scratch lakes in these tests."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.sail
def test_check_starts_the_engine_tries_every_feed_and_leaves_nothing_behind(
    tmp_path: Path,
    scratch: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = site(tmp_path / "site")
    before = {p for p in here.root.rglob("*") if "__pycache__" not in p.parts}
    lake = here.config.settings.lake_path
    Path(lake).mkdir()
    with (Path(lake) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a daemon at work keeps no check waiting
        code, found = checked(capsys, here)
    assert (code, [expected.partition(", in")[0] for _, expected in found["trial"]]) == (0, [f"kiosk: {RIGHT}"])
    assert any(verdict == "ok" and expected.startswith("sail started in") for verdict, expected in found["engine"])
    after = {p for p in here.root.rglob("*") if "__pycache__" not in p.parts}
    assert after - before == {Path(lake), Path(lake) / ".lock"}
    assert list(scratch.iterdir()) == []


@pytest.mark.sail
@pytest.mark.parametrize(
    ("feeds", "gold", "expected"),
    [
        (
            changed(FEEDS, "quantity <= $most", "quanttiy <= $most"),
            GOLD,
            ["takings, rule something_was_sold", "quanttiy"],
        ),
        (FEEDS, changed(GOLD, '"receipts": "1"', '"receipts": "recept"'), ["by_stall, column receipts", "recept"]),
    ],
    ids=["rule", "sum"],
)
def test_a_mistake_in_declared_sql_is_reported_with_feed_rule_and_name(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    feeds: str,
    gold: str,
    expected: list[str],
) -> None:
    code, found = checked(capsys, site(tmp_path / "site", feeds, gold))
    [(verdict, sentence)] = found["trial"]
    assert (code, verdict) == (1, "bad")
    assert sentence.startswith(f"kiosk: no batch can be published: {expected[0]}: ")
    assert expected[1] in sentence.removeprefix(expected[0])
    assert sentence.count(expected[0].partition(",")[0]) == 1


@pytest.mark.parametrize("kind", ["missing", "a file", "read only"])
def test_an_engine_that_cannot_be_tried_is_a_diagnostic_beside_the_others(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    place = tmp_path / "temporary"
    if kind == "a file":
        place.touch()
    monkeypatch.setattr(tempfile, "tempdir", "/proc" if kind == "read only" else str(place))
    code, found = checked(capsys, site(tmp_path / "site"))
    assert (code, "trial" in found, "landing" in found) == (1, False, True)
    assert [v for v, _ in found["engine"]] == ["ok", "note", "bad"]
    assert found["engine"][-1][1].startswith("cannot be tried: [Errno ")


def test_without_the_engine_nothing_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = checked(capsys, site(tmp_path / "site", changed(FEEDS, "quantity <=", "quanttiy <=")), "--no-engine")
    assert (code, "trial" in found, [v for v, _ in found["engine"]]) == (0, False, ["ok", "note"])


@pytest.mark.spark
@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (
            'conf = { "spark.driver.extraJavaOptions" = "-XX:MaxRAM=much" }',
            "Improperly specified VM option 'MaxRAM=much'",
        ),
        ('driver_memory = "9999g"', "Native memory"),
    ],
)
def test_an_engine_that_does_not_start_is_reported_with_the_end_of_its_log(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    engine: str,
    expected: str,
) -> None:
    code, found = checked(capsys, site(tmp_path / "site", engine=engine))
    assert (code, "trial" in found) == (1, False)
    assert [v for v, _ in found["engine"]] == ["ok", "bad"]
    assert expected in found["engine"][1][1]
