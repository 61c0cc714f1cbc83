"""Formats the state that `status` collects as lines for a person, the things that need the person first."""

import datetime as dt
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from daemon.cli import output
from daemon.cli.output import format_age, format_duration, format_local_time, plural
from daemon.text import escape, join_names

LABEL = 11  # columns
MOST_SET_ASIDE = 3
MOST_NEEDS = 12
NO_BREAK = "\0"  # stands for a space at which no line ends; no text of the ledger holds it

Line = tuple[str, str]  # a label and a text


def lines(current: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Returns the result of `status` as lines that fit into `width` columns, by default those of the terminal."""
    columns = width or output.line_width()
    now = dt.datetime.fromisoformat(current["now"])
    parts = (*_running(current, now), *_gold(current, now), *_day(current), *_daemon(current, now), *_files(current))
    wrapped = (line for label, text in parts for line in _wrap(f"{label:<{LABEL}}", text, columns))
    return [*_needs(current, now, columns), *wrapped]


def _wrap(label: str, text: str, width: int) -> list[str]:
    """Returns the text in lines behind its label. A line ends between the parts of a text, where they are short."""
    room = max(20, width - len(label))
    parts = (part if len(part) > room - 2 else part.replace(" ", NO_BREAK) for part in text.split(" · "))
    joined = f"{NO_BREAK}· ".join(parts)
    wrapped = textwrap.wrap(joined, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{label if n == 0 else ' ' * len(label)}{line.replace(NO_BREAK, ' ')}" for n, line in enumerate(wrapped)]


# ---- what needs a person


def _needs(current: Mapping[str, Any], now: dt.datetime, width: int) -> Iterator[str]:
    needs = current["needs"]
    yield f"{'needs you':<{LABEL}}{len(needs) or 'nothing'}"
    for need in needs[:MOST_NEEDS]:
        yield from _need(need, now, width)
    if len(needs) > MOST_NEEDS:
        yield f"  and {len(needs) - MOST_NEEDS} more: lakegate status --json"


def _need(need: Mapping[str, Any], now: dt.datetime, width: int) -> list[str]:
    """Returns one line where it fits, else the sentence in lines of its own."""
    is_batch = need["kind"].isupper()
    kind = need["kind"] if is_batch else "TROUBLE"
    name = f"{need['source']} {escape(need['subject'])}".strip() if is_batch else need["kind"].replace("_", " ")
    about = f"{name}  {need['batch_id'][-6:]}" if is_batch else f"{name}, for {format_age(need['since'], now)[:-4]}"
    head, sentence = f"  {kind:<{LABEL - 3}}  {about}", need["reason"]
    if need["until"]:
        sentence += f", until {format_local_time(need['until'], now)}, then it is rejected"
    command = f"→ {need['command']}"
    head = head.replace(kind, output.coloured(kind, kind if is_batch else "FAILED"), 1)
    plain = 2 + LABEL - 3 + 2 + len(about)
    if plain + 2 + len(sentence) + 2 + len(command) <= width:
        return [f"{head}  {sentence}  {command}"]
    return [f"{head}  {command}", *_wrap(" " * (LABEL + 1), sentence, width)]


# ---- what runs


def _running(current: Mapping[str, Any], now: dt.datetime) -> Iterator[Line]:
    work = current["running"]
    if work:
        yield "running", _work(work, now)
    else:
        yield "running", "nothing"
    ready = current["batches"].get("READY", 0)
    if ready and current["daemon"]["running"]:
        yield "ready", f"{plural(ready, 'batch', 'batches')}, each begins when its turn comes"
    elif ready:
        they = "it begins" if ready == 1 else "they begin"
        yield "ready", f"{plural(ready, 'batch', 'batches')}: {they} when the daemon runs"


def _work(work: Mapping[str, Any], now: dt.datetime) -> str:
    name = f"{work['source']} {work['batch_date']}  {work['batch_id'][-6:]}"
    usual = work["usual_seconds"]
    parts = (
        progress(work, now),
        f"attempt {work['attempt']} of {work['attempts']}" if work["attempt"] > 1 else "",
        f"usual time {format_duration(usual)}" if usual is not None else "",
    )
    return f"{name}  {' · '.join(filter(None, parts))}"


def progress(work: Mapping[str, Any], now: dt.datetime) -> str:
    """Returns the stage of the running batch with its time, its tasks, and its rows: `merge, 34 s · 670,650 rows`."""
    since = work["stage_since"] or work["since"]
    seconds = format_duration((now - dt.datetime.fromisoformat(since)).total_seconds())
    whole = format_duration((now - dt.datetime.fromisoformat(work["since"])).total_seconds())
    tasks = [task["name"] for task in work["tasks"]]
    parts = (
        f"{work['stage'] or 'between two stages'}, {seconds}" + (f" of {whole} so far" if whole != seconds else ""),
        join_names(tasks, most=2),
        plural(work["rows"], "row") if work["rows"] else "",
    )
    return " · ".join(filter(None, parts))


# ---- what was done


def _gold(current: Mapping[str, Any], now: dt.datetime) -> Iterator[Line]:
    shown = (f"{g['source']} {g['batch_date']} ({format_age(g['published_at'], now)})" for g in current["gold_shows"])
    yield "gold shows", " · ".join(shown) or "nothing yet"
    if current["outdated"]:
        effect = "not all rows follow the current definition; `lakegate check` names the batches"
        yield "outdated", f"{join_names(current['outdated'])}: {effect}"


def _day(current: Mapping[str, Any]) -> Iterator[Line]:
    day = current["last_24_hours"]
    counts = f"{day['published']} published, {day['rejected']} rejected, {day['failed']} failed"
    read = day["rows_read"]
    share = f" · {plural(read, 'row')}, {100 * day['rows_rejected'] / read:.1f} % rejected" if read else ""
    yield "last 24 h", f"{counts}{share}"


# ---- daemon and folders


def _daemon(current: Mapping[str, Any], now: dt.datetime) -> Iterator[Line]:
    daemon, lake = current["daemon"], current["lake"]
    if daemon["running"]:
        since = f" since {format_local_time(daemon['since'], now)}" if daemon["since"] else ""
        yield "daemon", f"process {daemon['pid']}{since} · worker {_worker(current, now)}"
    else:
        yield "daemon", "not running"
        if current["worker"]["running"]:
            yield "worker", _worker(current, now)
    if lake["held_by"]:
        yield "lake", f"process {lake['held_by']} writes to it; the worker waits for its end"
    if lake["unreadable"]:
        yield "lake", f"cannot be read: {lake['unreadable']}"


def _worker(current: Mapping[str, Any], now: dt.datetime) -> str:
    worker = current["worker"]
    trouble = next((t for t in current["troubles"] if t["kind"] == "worker"), None)
    if worker["running"] and current["daemon"]["running"] and not worker["ready"]:
        begun = f" for {format_age(worker['since'], now).removesuffix(' ago')}" if worker["since"] else ""
        failed = f", after {plural(trouble['tries'], 'failed start')}" if trouble else ""
        return f"starting{begun}, process {worker['pid']}{failed}"
    if trouble:
        last = format_local_time(trouble["last_at"], now)
        return f"cannot start ({plural(trouble['tries'], 'try', 'tries')}, the last at {last})"
    if not worker["running"]:
        return "not running"
    return ", ".join(filter(None, ("running", f"process {worker['pid']}", worker["engine"])))


def _files(current: Mapping[str, Any]) -> Iterator[Line]:
    strange, aside = current["no_feed"], {one["file"] for one in current["set_aside"]}
    strange = [one for one in strange if one["file"] not in aside]
    if strange:
        names = (f"{one['file']} (near {one['near']})" if one["near"] else one["file"] for one in strange[:3])
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        verb = "matches" if len(strange) == 1 else "match"
        yield "landing", f"{plural(len(strange), 'file')} {verb} no feed: {', '.join(names)}{more}"
    unmatched = {one["file"] for one in current["no_feed"]}
    untriggered = [file for file in current["unclaimed"] if escape(file) not in unmatched]
    if untriggered:
        count, triggers = plural(len(untriggered), "data file"), plural(current["triggers"], "trigger")
        about = f"{count} that no trigger names"
        if current["triggers"] and current["daemon"]["running"]:
            about = f"{count} and {triggers}, not yet taken by the daemon"
        elif current["triggers"]:
            about = f"{count} and {triggers} for the next start of the daemon"
        yield "landing", f"{about}: {join_names(untriggered)}"
    for one in current["set_aside"][:MOST_SET_ASIDE]:
        yield "set aside", f"{one['file']} {one['reason']}"
