"""Secrets of the configuration and the environment stay out of log, journal, terminal, ledger and `check`."""

import datetime as dt
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import apprise
import pytest
from factories_daemon import Zone
from factories_source import kiosk

from daemon.cli.main import main
from daemon.cli.trial import run_trials
from daemon.config.load import load_config
from daemon.finish.on_published import LONGEST_SECONDS
from pipeline.contract import (
    OrderFile,
    Outcome,
    Settings,
    WorkOrder,
    hide_secrets,
    is_secret_name,
    mask_secrets,
    secrets_of,
)
from pipeline.lake.lake import Lake
from pipeline.model import Feed, Scd1, Source
from pipeline.run import run
from pipeline.worker.trial import trial

PROJECT = Path(__file__).parents[3]
SECRET = "hunter2-hunter2"
ADDRESS = f"mailto://me:{SECRET}@127.0.0.1:1?from=a@example.com&to=b@example.com"

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise loads it


def written(root: Path) -> str:
    """Everything that stands anywhere below a folder, but for the configuration itself."""
    files = (p for p in root.rglob("*") if p.is_file() and p.name != "config.toml")
    return "".join(p.read_bytes().decode(errors="replace") for p in files)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            f'[alerts]\nurls = "{ADDRESS}"',
            "[alerts] urls is not a list of texts (its value may be a secret, and is not shown)",
        ),
        (f'[alerts]\nurls = ["{ADDRESS}", 5]', "[alerts] urls is not a list of texts"),
        (f'alerts = "{ADDRESS}"', "alerts is not a section; write [alerts]"),
        (f'[spark]\nconf = "spark.hadoop.fs.s3a.secret.key={SECRET}"', "[spark] conf is not a table of Spark settings"),
        (
            f'[spark.conf]\n"spark.hadoop.fs.s3a.secret.key" = ["{SECRET}"]',
            "[spark] conf is not a table of Spark settings",
        ),
        (f'[spark]\nremote = ["sc://host/;token={SECRET}"]', "[spark] remote is not a text"),
        (f'[dispatch]\non_published = "curl -H token={SECRET}"', "[dispatch] on_published is not a list of texts"),
        (
            f'[log]\npath = "https://me:{SECRET}@host/log"',
            '[log] path = "https://***@host/log" is not a path on this machine',
        ),
        (f'[lake]\npath = "s3://bucket/lake?access_key={SECRET}"', "access_key=*** is not a path"),
        (f'[spark]\nengine = "token={SECRET}"', "is not an engine"),
    ],
)
def test_a_mistake_in_the_configuration_shows_no_secret(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    says: str,
) -> None:
    (tmp_path / "config.toml").write_text(text)
    for verb in (["check"], ["run", "--once"]):
        assert main(["--config", str(tmp_path / "config.toml"), *verb]) == 78
        said = capsys.readouterr()
        assert says.partition(" (")[0].replace('"', "") in " ".join(said.err.split()).replace('"', "")
        assert SECRET not in said.out + said.err


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LAKEGATE_ALERTS__URLS", ADDRESS),
        ("LAKEGATE_SPARK__CONF", f"spark.hadoop.fs.s3a.secret.key={SECRET}"),
        ("LAKEGATE_SPARK__CONF", json.dumps({"spark.x.password": [SECRET]})),
        ("LAKEGATE_DISPATCH__ON_PUBLISHED", f"curl --oauth2-bearer {SECRET}"),
    ],
)
def test_a_mistake_in_a_variable_shows_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv(variable, text)
    assert main(["--config", str(tmp_path / "config.toml"), "check"]) == 78
    said = capsys.readouterr()
    assert said.err.startswith(variable)
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize(
    "text",
    [
        f'[spark]\nengine = "connect"\nremote = "sc://127.0.0.1:1/;token={SECRET};user_id=x"',
        f'[spark]\nengine = "connect"\nremote = "sc://127.0.0.1:1;token={SECRET}"',
        f'[spark]\nengine = "connect"\nremote = "sc://user:{SECRET}@127.0.0.1:port"',
        f'[spark]\nengine = "sail"\n[alerts]\nurls = ["{SECRET}", "nonsense://{SECRET}", "mailto//me:{SECRET}@host"]',
        f'[spark]\nengine = "sail"\n[alerts]\nurls = ["{ADDRESS}"]',
        f'[spark]\nengine = "sail"\n[dispatch]\non_published = ["curl --oauth2-bearer {SECRET}"]',
        f'[spark]\nengine = "sail"\n[dispatch]\non_published = ["no-such-program", "--token={SECRET}"]',
    ],
)
def test_check_shows_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    for options in ([], ["--json"]):
        assert main(["--config", str(tmp_path / "config.toml"), "check", "--no-engine", *options]) in (0, 1)
        said = capsys.readouterr()
        assert "engine" in said.out
        assert SECRET not in said.out + said.err


@pytest.mark.sail
def test_check_with_an_engine_shows_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kiosk(tmp_path)  # the smallest source
    sources = '[sources]\npaths = ["kiosk"]\nexclude = ["retail", "crm_erp", "clickstream"]'
    alerts = f'[alerts]\nurls = ["{ADDRESS}", "nonsense://{SECRET}"]'
    command = f'[dispatch]\non_published = ["no-such-program", "--token={SECRET}"]'
    (tmp_path / "config.toml").write_text(f'[spark]\nengine = "sail"\n{sources}\n{alerts}\n{command}\n')
    assert main(["--config", str(tmp_path / "config.toml"), "check"]) == 1
    said = capsys.readouterr()
    assert "sail started in" in said.out
    assert SECRET not in said.out + said.err


@pytest.mark.long
def test_an_engine_that_repeats_its_settings_in_an_error_shows_no_secret(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    token = f"{SECRET}=="  # two signs of equality are what Spark's client complains about, with the parameter in full
    server = socket.create_server(("127.0.0.1", 0))  # the worker asks a server that answers only
    request.addfinalizer(server.close)
    address = f"sc://127.0.0.1:{server.getsockname()[1]}/;token={token}"
    spark = f'[spark]\nengine = "connect"\nremote = "{address}"\n'
    (tmp_path / "config.toml").write_text(f"{spark}[retry]\nattempts = 1\n[debounce]\nquiet_seconds = 0.1\n")
    (tmp_path / "landing" / "trigger").mkdir(parents=True)
    (tmp_path / "landing" / "orders_2026_03_02.csv").write_text("ok\n")
    (tmp_path / "landing" / "trigger" / "orders_2026_03_02.csv.done").touch()
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for verb in (["run", "--once"], ["batches", "last"], ["check"]):
        command = [sys.executable, "-m", "daemon", "--config", str(tmp_path / "config.toml"), *verb]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert SECRET not in done.stdout + done.stderr
        assert done.returncode == (0 if verb[0] == "batches" else 1)
    everything = written(tmp_path)
    assert "should be provided as a key-value pair" in everything
    assert SECRET not in everything


CUTS = range(280, 385, 3)  # where in a text the secret begins: some place is that at which it is cut
HALF = SECRET[:5]


@pytest.mark.parametrize("verb", [run, trial])
def test_a_worker_hides_secrets_before_it_cuts_a_sentence(tmp_path: Path, verb: Any) -> None:
    settings = Settings(lake_path=str(tmp_path / "lake"), conf={"spark.x.password": SECRET})
    order = WorkOrder(batch_id="b", source="club", batch_date=dt.date(2026, 3, 2), files=())
    for start in CUTS:

        def source_of(_name: str, start: int = start) -> Source:
            raise RuntimeError(f"{'x' * (start - 14)}{SECRET} was refused")

        what = order if verb is run else "club"
        answer = verb(what, settings, Lake(tmp_path / "lake"), lambda _: None, source_of)
        said = answer.reason if verb is run else answer.mistake
        assert said.startswith("RuntimeError: xxx")
        assert HALF not in said


def test_a_batch_that_fails_for_good_has_no_half_of_a_secret_on_record(tmp_path: Path) -> None:
    """The path of a claimed file that cannot be read stands in the error."""
    settings = Settings(lake_path=str(tmp_path / "lake"), conf={"spark.x.password": SECRET})
    feed = Feed(name="rooms", files="rooms_*.csv", columns="room STRING NOT NULL", key=("room",), stored_as=Scd1())
    club = Source(name="club", feeds=(feed,))
    for start in range(300, 360, 4):
        place = f"/{'x' * 200}/{'y' * (start - 201)}{SECRET}"
        file = OrderFile(name="rooms_1.csv", feed="rooms", path=place, sha256=f"{start}", bytes=1)
        day = dt.date(2026, 3, 2)
        order = WorkOrder(batch_id=f"b{start}", source="club", batch_date=day, files=(file,), final=True)
        answer = run(order, settings, Lake(tmp_path / "lake"), lambda _: None, lambda _: club)
        assert (answer.outcome, answer.retryable, "yyy" in answer.reason) == (Outcome.FAILED, False, True)
        assert HALF not in answer.reason


def test_the_last_words_of_an_engine_that_does_not_start_are_hidden_before_they_are_cut(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    zone = Zone(tmp_path)
    for start in range(380, 402, 3):
        said = f"print('x' * {start} + '{SECRET}', file=sys.stderr)"
        [verdict] = run_trials(zone.config, (sys.executable, "-I", "-S", "-c", f"import sys; {said}"))
        assert "; at last: xxx" in str(verdict)
        assert HALF not in str(verdict)


def test_what_a_worker_says_reaches_ledger_and_log_without_secrets(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    key = f'"spark.hadoop.fs.azure.account.key.x" = "{SECRET}"\n'
    conf = f'{key}"spark.driver.extraJavaOptions" = "-Dtrust.password={SECRET}2"\n'
    (tmp_path / "config.toml").write_text((tmp_path / "config.toml").read_text() + f"[spark.conf]\n{conf}")
    zone.config = load_config(tmp_path / "config.toml", {})
    zone.deliver("reject", f"reject no such key {SECRET} at all\n")
    zone.deliver("break", f"break -Dtrust.password={SECRET}2 was said\n")
    assert zone.once() == 1
    assert zone.batch("reject").reason == "no such key *** at all"
    assert zone.batch("break").reason == "-Dtrust.password=*** was said"
    for path in (zone.config.log.path, zone.config.ledger_path, *(tmp_path / "rejected").rglob("reason.json")):
        assert SECRET.encode() not in path.read_bytes()


def test_a_command_that_shows_its_environment_shows_no_secret_in_the_log(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"aws-{SECRET}")
    monkeypatch.setenv("LAKEGATE_ALERTS__URLS", json.dumps([ADDRESS]))
    shown = f'echo "$AWS_SECRET_ACCESS_KEY"; grep urls {tmp_path}/config.toml; echo "$LAKEGATE_ALERTS__URLS"'
    shell = f"({shown}) >&2; exit 3"
    zone = Zone(tmp_path, alerts={"urls": [ADDRESS]}, dispatch={"on_published": ["sh", "-c", shell], "stop_seconds": 2})
    zone.deliver("1")
    assert zone.once() == 0
    [failed] = zone.log("on_published.failed")
    assert failed["exit_code"] == 3
    assert failed["reason"].startswith("***")
    assert SECRET not in zone.config.log.path.read_text()


def test_a_command_that_takes_too_long_is_logged_without_its_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.finish.on_published.LONGEST_SECONDS", 0.2)
    zone = Zone(tmp_path, dispatch={"on_published": ["sh", "-c", f": {SECRET}; exec sleep 5"], "stop_seconds": 2})
    zone.deliver("1")
    assert zone.once() == 0
    assert zone.log("on_published.failed")[0]["reason"] == "it did not end within 0.2 seconds"
    assert SECRET not in zone.config.log.path.read_text()
    assert LONGEST_SECONDS == 3600


def test_an_exception_of_the_alert_library_shows_no_secret(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def notify(self: apprise.Apprise, **_: object) -> bool:
        raise RuntimeError(f"cannot reach {self[0].url(privacy=False)}, {ADDRESS}")

    monkeypatch.setattr(apprise.Apprise, "notify", notify)
    zone = Zone(tmp_path, alerts={"urls": [ADDRESS]}, dispatch={"stop_seconds": 20})
    zone.deliver("1", f"reject {ADDRESS} was refused\n")
    assert zone.once(quiet=False) == 1
    assert zone.log("alert.failed")[0]["reason"].startswith("RuntimeError: cannot reach mailto://")
    assert main(["--config", str(tmp_path / "config.toml"), "check", "--alerts"]) == 1
    said = capfd.readouterr()
    assert "cannot reach mailto://" in said.out
    assert SECRET not in said.out + said.err + written(tmp_path / "logs") + written(tmp_path / "state")


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("spark.hadoop.fs.s3a.secret.key", True),
        ("spark.hadoop.fs.s3a.access.key", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("javax.net.ssl.keyStorePassword", True),
        ("apiKey", True),
        ("pass", True),
        ("x-api-key", True),
        ("token", True),
        ("keep_days", False),
        ("spark.sql.shuffle.partitions", False),
        ("price_property", False),
        ("monkey", False),
        ("PATH", False),
    ],
)
def test_a_secret_is_known_by_its_name(name: str, is_secret: bool) -> None:
    assert is_secret_name(name) is is_secret


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (ADDRESS, SECRET),
        ("mailtos://me:p%40ssw%C3%B6rd@host", "p@sswörd"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "TIiajkdnlazkcOXrIdevi7FQ"),
        ("json://host/hook?token=abcdefgh", "abcdefgh"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544", "123456789:abcdefg_hijklmnop"),
    ],
)
def test_the_secrets_of_an_address_are_taken_out_of_any_text(address: str, shown: str) -> None:
    secrets = secrets_of(Settings(lake_path="lake"), [address])
    for text in (f"it is {shown}, they say", f"it is {address}, they say", json.dumps({"it": shown}), repr(shown)):
        assert shown not in hide_secrets(text, secrets)
    assert (
        hide_secrets("lakegate sent mail to host, true, 12345678", secrets)
        == "lakegate sent mail to host, true, 12345678"
    )


def test_what_only_looks_like_a_secret_is_masked_where_nothing_is_known() -> None:
    shown = mask_secrets("see sc://me:pw@host:1/;token=abc;user_id=x and a=b")
    assert shown == "see sc://***@host:1/;token=***;user_id=x and a=b"
