"""Runs the functions of gold tables over recorded rows. No engine and no PySpark is loaded for it."""

import builtins
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from pipeline.lineage.recorded_columns import CannotFollow, RecordedFunctions, RecordedWindow
from pipeline.lineage.recorded_frame import RecordedFrame
from pipeline.model import Build


def run(build: Build, rows: RecordedFrame) -> RecordedFrame | None:
    """Returns the rows that the function of a gold table returns; None where the recorder cannot follow it."""
    try:
        built: Any = _with_recorder(build)(rows)
    except Exception:  # noqa: BLE001 - the function is not ours, and an engine may take what the recorder does not
        return None
    return built if isinstance(built, RecordedFrame) else None


def _with_recorder(build: Build) -> Callable[[Any], Any]:
    """Returns the function with an `import` that gives it the recorder instead of PySpark, and so its module's own."""
    if not isinstance(build, FunctionType):
        return build
    there = build.__globals__
    names: dict[str, Any] = {**there, "__builtins__": {**vars(builtins), "__import__": _import}}
    for name, one in there.items():
        if isinstance(one, FunctionType) and one.__globals__ is there:
            names[name] = _copy(one, names)
    return _copy(build, names)


def _copy(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _import(name: str, *given: Any, **named: Any) -> Any:
    if name.partition(".")[0] != "pyspark":
        return builtins.__import__(name, *given, **named)
    if name not in ("pyspark.sql", "pyspark.sql.functions", "pyspark.sql.window"):
        raise CannotFollow(f"import {name}")
    return _recorder()


def _recorder() -> ModuleType:
    """Returns a module for `pyspark.sql`, `pyspark.sql.functions` and `pyspark.sql.window` alike."""
    module = ModuleType("pyspark")
    functions = RecordedFunctions()
    module.__dict__.update(functions=functions, Window=RecordedWindow(), __getattr__=functions.__getattr__)
    module.__dict__.update(col=functions.col, column=functions.column, lit=functions.lit, expr=functions.expr)
    module.__dict__.update(sql=module)
    return module
