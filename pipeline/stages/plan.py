"""The plan of a batch: one task per step of a table, and the tasks that each of them needs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pipeline.lake.ops_tables import RESTATEMENTS
from pipeline.stages import feed_tasks as feeds
from pipeline.stages import gold_tasks as gold
from pipeline.stages import silver_tasks as silver
from pipeline.stages.context import BatchContext
from pipeline.stages.task_graph import Results, Task
from pipeline.transform.aggregate_input import reads_followed_rows
from pipeline.transform.change import changes_in
from pipeline.transform.enrich import tables_read

MERGE, ENRICH, SUMMARISE = "merge", "enrich", "summarise"
BUILD = "build"  # the verb of tasks that compute a hierarchy


def plan(batch: BatchContext) -> list[Task]:
    """Returns the tasks that follow validation; ready ones start in this order.

    Gold tables are computed before the quality of the batch is checked, and written after it.
    """
    source, tasks = batch.source, list[Task]()
    changes, writes = dict[str, str](), dict[str, str]()  # table -> the task that computes its change, that writes it

    def add(
        stage: str, verb: str, table: str, needs: Sequence[str | None], run: Callable[..., Any], *given: Any
    ) -> str:
        needed, work = tuple(name for name in needs if name), partial(run, batch, *given)
        tasks.append(Task(name=f"{verb} {table}", needs=needed, run=work, stage=stage, table=table))
        return tasks[-1].name

    ties = list[str]()
    for validated in batch.feeds_with_rows():
        feed, target = validated.feed, feeds.merge_target(batch, validated.feed)
        name, match = target.silver.name, None
        append = add(MERGE, "append", target.bronze.name, [], feeds.append_bronze, validated)
        if feeds.matches_versions(feed, target):
            first = append if feeds.match_reads_bronze(feed, target) else None
            match = add(MERGE, "match", name, [first], feeds.match_versions, validated, target)
        log = append if feeds.merge_reads_bronze(feed, target) else None
        merge = add(MERGE, "merge", name, [match, log], feeds.merge_feed, validated, target)
        writes[feed.name] = add(MERGE, "write", name, [merge, append], write_change, name)
        changes[feed.name] = merge
        if feeds.may_tie(feed, target):
            ties.append(add(ENRICH, "count ties", name, [match, append], feeds.count_ties, validated, target))

    rules = list[str]()  # the tasks whose results have findings
    for hierarchy in source.hierarchies:
        name, written = batch.name("silver", hierarchy.name), writes.get(hierarchy.upstream)
        if written is None and name not in batch.computed_whole:
            continue
        changes[hierarchy.name] = add(MERGE, BUILD, name, [written], silver.hierarchy, hierarchy)
        writes[hierarchy.name] = add(MERGE, "write", name, [changes[hierarchy.name]], write_change, name)
        rules.append(changes[hierarchy.name])

    merged = list(writes.values())
    for enriched in source.enriched:
        name, read = batch.name("silver", enriched.name), [t for t in tables_read(enriched) if t in writes]
        needs = [*(changes[t] for t in read), *(writes[t] for t in read)]
        changes[enriched.name] = add(ENRICH, "enrich", name, needs, silver.enrich, enriched)
        writes[enriched.name] = add(ENRICH, "write", name, [changes[enriched.name]], write_change, name)
        rules.append(changes[enriched.name])
    rules.append(add(ENRICH, "count", "references", [*merged, *ties], silver.count_references))
    check = add("", "check", "quality", [*rules, *writes.values()], gold.check_batch_quality)

    for table in source.gold:
        name, of, other = batch.name("gold", table.name), table.upstream, table.dimension
        reads_rows = reads_followed_rows(table, is_whole=gold.is_whole(batch, table))
        needed = [changes.get(of), writes.get(of) if reads_rows else None, changes.get(other), writes.get(other)]
        changes[table.name] = add(SUMMARISE, "aggregate", name, needed, gold.aggregate_table, table)

    computed = [changes[t.name] for t in source.gold]
    for name in (batch.name("gold", t.name) for t in source.gold):
        add(SUMMARISE, "write", name, [check, *computed], write_change, name)
    if dated := [changes[t.name] for t in source.gold if t.date_column]:
        add(SUMMARISE, "append", RESTATEMENTS, [check, *dated], gold.append_restatements)
    return tasks


def write_change(batch: BatchContext, table: str, results: Results) -> int:
    """Writes the change of a table, and returns its rows."""
    change = changes_in(results).get(table)
    if change is None:
        return 0
    batch.attempt.change(table, change.key, change.rows)
    return change.rows.rows
