"""What a paper prints in a table that a suite makes: read from a file, and held against the suite. Imports no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import field
from attrs.validators import ge, min_len

from mtl_core import ExperimentError, help, nearest, parse_toml, read_options, read_toml
from mtl_suite.plan import Suite
from mtl_suite.result import LOWER_IS_BETTER, Spread

DELTA = "delta"
"""The column of Δ%; ``delta/TASK`` is a task's part of it."""

_ROUNDING = 0.15
"""How far a printed Δ% may be from the one that its row's figures give, in per cent: figures have three digits."""

Row = tuple[str, str]
"""(scenario, experiment)"""

_Figures = dict[str, Spread]
"""Column → mean, and the deviation if it is printed."""


@attrs.define(kw_only=True, eq=False)
class About:
    """What a file of published figures says beside its rows."""

    suite: str = field(validator=min_len(1), metadata=help("name of the suite that makes the table"))
    source: str = field(validator=min_len(1), metadata=help("paper and table"))
    seeds: int = field(validator=ge(1), metadata=help("runs behind each figure"))
    columns: tuple[str, ...] = field(
        validator=min_len(1), metadata=help("task/metric, delta (Δ%) or delta/TASK, one for each figure of a row")
    )
    reference: str | None = field(
        default=None, metadata=help("experiment that the paper's Δ% refers to; none: the suite's")
    )
    notes: tuple[str, ...] = field(default=(), metadata=help("what to know when comparing"))
    left_out: tuple[str, ...] = field(default=(), metadata=help("figures of the table that are not in the file"))


@attrs.frozen(eq=False)
class Published:
    """A paper's table, as far as a suite makes it."""

    path: Path
    about: About
    rows: dict[Row, _Figures]

    def recomputed(self, row: Row, suite: Suite) -> float | None:
        """Δ% by the figures of the row and of its reference; None where they do not give it."""
        scenario, _ = row
        own = self.rows[row]
        parts = [name for name in self.about.columns if name.startswith(f"{DELTA}/")]
        if parts:
            return statistics.fmean(own[name][0] for name in parts) if own.keys() >= set(parts) else None
        reference = suite.scenarios[scenario].reference or scenario, self.about.reference or suite.reference
        base = self.rows.get(reference, {})
        metrics = [name for name in self.about.columns if name != DELTA]
        if not metrics or any(name not in own or name not in base for name in metrics):
            return None
        return statistics.fmean(_better(name, own[name][0], base[name][0]) for name in metrics)

    def contradiction(self, row: Row, suite: Suite) -> float | None:
        """What Δ% is by the row's own figures, where the printed one is another."""
        printed = self.rows[row].get(DELTA)
        computed = self.recomputed(row, suite)
        if printed is None or computed is None or abs(computed - printed[0]) <= _ROUNDING:
            return None
        return computed


def _better(metric: str, value: float, reference: float) -> float:
    change = 100 * (value - reference) / reference
    return -change if metric.rpartition("/")[2] in LOWER_IS_BETTER else change


def load_published(path: Path, suite: Suite) -> Published:
    """Read a file of published figures.

    :raises ExperimentError: with every mistake in it, names that the suite does not have included
    """
    document = parse_toml(read_toml(path), str(path))
    tables = document.pop("rows", None)
    values, problems = read_options(About, document)
    if not isinstance(tables, Mapping) or not tables:
        problems.append("rows: expected a table with a list of figures for each experiment, below its scenario if any")
    if problems:
        raise ExperimentError(str(path), problems)
    about = About(**values)
    rows: dict[Row, _Figures] = {}
    for key, row, cells in _listed(tables or {}):
        figures, wrong = _read_row(f"rows.{key}", cells, about.columns)
        rows[row] = figures
        problems += wrong + _check_row(f"rows.{key}", row, suite)
    problems += _check_names(about, suite)
    if problems:
        raise ExperimentError(str(path), problems)
    return Published(path, about, rows)


def _listed(tables: Mapping[str, Any]) -> list[tuple[str, Row, object]]:
    """(key in the file, row, its list) of each row; rows of a suite without scenarios stand in ``rows`` itself."""
    found: list[tuple[str, Row, object]] = []
    for name, value in tables.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{experiment}", (name, experiment), cells) for experiment, cells in value.items()]
        else:
            found.append((name, ("", name), value))
    return found


def _read_row(key: str, cells: object, columns: Sequence[str]) -> tuple[_Figures, list[str]]:
    """The figures of one row: numbers, [mean, deviation], or nan for one that is not printed."""
    if not isinstance(cells, list) or len(cells) != len(columns):
        return {}, [f"{key}: expected {len(columns)} figures ({', '.join(columns)}), found {cells}"]
    found: _Figures = {}
    problems: list[str] = []
    for column, cell in zip(columns, cells, strict=True):
        parts = cell if isinstance(cell, list) else [cell]
        if not 1 <= len(parts) <= 2 or not all(type(part) in (int, float) for part in parts):
            problems.append(f"{key}: {column}: expected a number, [mean, deviation] or nan, found {cell}")
        elif not math.isnan(parts[0]):
            deviation = float(parts[1]) if len(parts) == 2 else None
            found[column] = float(parts[0]), deviation
    return found, problems


def _check_row(key: str, row: Row, suite: Suite) -> list[str]:
    scenario, name = row
    if scenario not in suite.scenarios:
        found = f'"{scenario}"' if scenario else "no scenario's table"
        return [f"{key}: {found} is no scenario of the suite{nearest(scenario, suite.scenarios)}"]
    if name not in suite.entries:
        return [f'{key}: no experiment "{name}" in the suite{nearest(name, suite.entries)}']
    only = suite.entries[name].only
    return [f'{key}: the suite does not run "{name}" in "{scenario}"'] if only and scenario not in only else []


def _check_names(about: About, suite: Suite) -> list[str]:
    problems = []
    if about.suite != suite.settings.name:
        problems.append(f'suite: the figures are for "{about.suite}", and this suite is "{suite.settings.name}"')
    if about.reference and about.reference not in suite.entries:
        problems.append(f'reference: no experiment "{about.reference}"{nearest(about.reference, suite.entries)}')
    metrics = suite.settings.metrics
    known = [*metrics, DELTA, *dict.fromkeys(f"{DELTA}/{name.partition('/')[0]}" for name in metrics)]
    for column in about.columns:
        if column not in known:
            problems.append(
                f'columns: no "{column}" in the suite{nearest(column, known)} (there are: {", ".join(known)})'
            )
    return problems


def beside(suite: Path) -> list[Path]:
    """The files of published figures for a suite: those of the folder ``published`` beside it that name it."""
    name = parse_toml(read_toml(suite), str(suite)).get("name")
    files = sorted((suite.parent / "published").glob("*.toml"))
    found = [path for path in files if parse_toml(read_toml(path), str(path)).get("suite") == name]
    return sorted(found, key=lambda path: path.stem != suite.stem)
