"""A worker needs no time zone, locale, display or home of its machine. Each machine is a namespace of mounts."""

import datetime as dt
import os
from pathlib import Path

import pytest
from factories_worker import Worker, example

from pipeline.contract import Outcome, Settings
from pipeline.engine import time_zone
from pipeline.errors import SetupError
from pipeline.reader import published, sql

NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
# A copy of /etc without the zone takes the place of /etc, and an empty folder that of the time zone files.
MACHINE = """
mount --make-rprivate /
mkdir "$1/etc" "$1/nothing" && cp -a /etc/. "$1/etc" 2>/dev/null
rm -f "$1/etc/localtime" "$1/etc/timezone"
[ -z "$2" ] || cp "$2" "$1/etc/localtime"
mount --bind "$1/etc" /etc && mount --bind "$1/nothing" /usr/share/zoneinfo && shift 2 && exec "$@"
"""
A_COPY = "/usr/share/zoneinfo/Europe/Berlin"  # as on Amazon Linux: the zone's rules, without its name


def machine(root: Path, *environment: str, localtime: str = "") -> list[str]:
    """A command that runs another one on a machine that has next to nothing."""
    needed = [f"PATH={os.environ['PATH']}", f"PYTHONPATH={Path(__file__).parents[3]}"]
    return [*NAMESPACE, "sh", "-c", MACHINE, "sh", str(root), localtime, "env", "-i", *needed, *environment]


@pytest.mark.parametrize("engine", [pytest.param(e, marks=getattr(pytest.mark, e)) for e in ("sail", "spark")])
@pytest.mark.parametrize(
    ("environment", "localtime"),
    [
        pytest.param(("LC_ALL=C",), "", id="nothing"),
        pytest.param(("LC_ALL=tr_TR.ISO-8859-9", "TZ=America/New_York", "DISPLAY=:9"), A_COPY, id="strange"),
    ],
)
def test_a_worker_publishes_on_a_machine_without_zone_locale_display_or_home(
    tmp_path: Path,
    engine: str,
    environment: tuple[str, ...],
    localtime: str,
) -> None:
    lake = tmp_path / "länder" / "lake"
    settings = Settings(
        lake_path=str(lake),
        engine=engine,
        master="local[1]",
        driver_memory="512m",
        log_path=str(tmp_path / "spark.log"),
    )
    through = machine(tmp_path, *environment, localtime=localtime)
    with Worker(settings, tmp_path / "worker.log", through) as worker:
        result = worker.run(example("customers"))
    assert result.outcome == Outcome.PUBLISHED, result.error
    query = "SELECT first_name, epoch(created_timestamp) FROM retail.silver.customers WHERE customer_id = 'C-101'"
    at = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
    assert sql(published(lake), query).rows == (("Odile", at.timestamp()),)


@pytest.mark.parametrize(
    ("link", "name", "is_known"),
    [
        ("/usr/share/zoneinfo/Etc/UTC", None, True),  # the files themselves need not be there
        ("../usr/share/zoneinfo/UTC", None, True),
        (None, "Europe/Berlin\n", True),
        ("/somewhere/else", None, False),
        (None, None, False),
    ],
)
def test_a_time_zone_is_known_by_a_link_or_by_its_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    link: str | None,
    name: str | None,
    is_known: bool,
) -> None:
    monkeypatch.setattr(time_zone, "LOCALTIME", tmp_path / "localtime")
    monkeypatch.setattr(time_zone, "TIMEZONE", tmp_path / "timezone")
    if link:
        (tmp_path / "localtime").symlink_to(link)
    if name:
        (tmp_path / "timezone").write_text(name)
    assert time_zone.is_known() is is_known


def test_a_library_that_is_not_found_is_reported_with_the_cure(tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(b"nothing of that kind")
    with pytest.raises(SetupError, match=r"has no time zone.*ln -s /usr/share/zoneinfo/Etc/UTC /etc/localtime"):
        time_zone.set_utc(library)
