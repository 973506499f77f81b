"""Several runs in one page: their results beside each other, every curve over those of the others. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import attrs

from mtl_core import RunFolder, differing, parse_toml, read_toml, write_text
from mtl_report.charts import TRAIN, VALIDATION, History, arrow, axis, names_of, points, tasks_of
from mtl_report.curves import COLOURS, chart
from mtl_report.report import curves, folded, picture, rank, results_of, section, shown, with_unit
from mtl_report.style import document


@attrs.frozen
class _Shown:
    """One run of the page.

    :param label: what the page calls it
    """

    label: str
    run: RunFolder
    result: dict[str, Any]
    history: History


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write one page about several runs.

    :return: the file
    :raises CheckpointError: a folder is no run
    """
    runs = [RunFolder(folder).require() for folder in folders]
    labels = _labels_of([run.folder for run in runs])
    found = [_Shown(label, run, results_of(run), run.history()) for label, run in zip(labels, runs, strict=True)]
    write_text(out, _page(found))
    return out


def _labels_of(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell folders apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-depth:]) for part in parts]
        if len(set(labels)) == len(set(parts)):
            break
    return labels


def _page(runs: Sequence[_Shown]) -> str:
    title = escape(", ".join(run.label for run in runs))
    parts = [
        f"<h1>{len(runs)} runs</h1>",
        _runs_table(runs),
        section("Results", _results_table(runs)),
        section(
            "Curves", curves(_charts(runs)), "Dashed: training; solid: validation. The legend gives the last value."
        ),
        section("Settings that differ", _settings_table(runs)),
        section("Pictures", "".join(_pictures(run) for run in runs)),
    ]
    return document(title, "".join(parts))


def _runs_table(runs: Sequence[_Shown]) -> str:
    rows = "".join(_runs_row(run, COLOURS[place % len(COLOURS)]) for place, run in enumerate(runs))
    head = "<tr><th>run<th>name<th class='n'>seed<th class='n'>epochs<th>"
    return f"<div class='wide'><table>{head}{rows}</table></div>"


def _runs_row(run: _Shown, colour: str) -> str:
    bad = "; ".join(run.result.get("problems", ()))
    state = ("" if run.result else "not finished") + (f"cannot be used: {bad}" if bad else "")
    return (
        f"<tr><td><span class='meter' style='width:18px;background:{colour}'></span> {escape(run.label)}"
        f"<td>{escape(str(run.result.get('name', '–')))}<td class='n'>{run.result.get('seed', '–')}"
        f"<td class='n'>{len(run.history)}<td>{escape(state)}"
    )


def _results_table(runs: Sequence[_Shown]) -> str:
    """A row for each metric, the best value of each in bold."""
    about: dict[str, Any] = {"units": {}, "directions": {}, "headline": {}}
    names: dict[str, None] = {}
    for run in runs:
        names |= dict.fromkeys(run.result.get("metrics", {}))
        for kind, known in about.items():
            known.update(run.result.get(kind, {}))
    rows = []
    for name in names:
        values = [run.result.get("metrics", {}).get(name) for run in runs]
        rows.append(_results_row(name, values, about))
    head = "".join(f"<th class='n'>{escape(run.label)}" for run in runs)
    return f"<div class='wide'><table><tr><th>task<th>metric{head}{''.join(rows)}</table></div>" if rows else ""


def _results_row(name: str, values: Sequence[float | None], about: Mapping[str, Any]) -> str:
    better = about["directions"].get(name, about["headline"].get(name))
    best = _best_of(values, better)
    task, _, metric = name.partition("/")
    cells = "".join(_results_cell(value, best) for value in values)
    title = f"{escape(with_unit(metric, about['units'].get(name)))}{arrow(about, name)}"
    return f"<tr><td>{escape(task)}<td class='w'>{title}{cells}"


def _best_of(values: Sequence[float | None], higher_is_better: bool | None) -> float | None:
    """The best value; None where there are not two, or nothing says what is better."""
    known = [value for value in values if value is not None]
    if higher_is_better is None or len(known) < 2:
        return None
    return max(known) if higher_is_better else min(known)


def _results_cell(value: float | None, best: float | None) -> str:
    kind = "n b" if value is not None and value == best else "n"
    return f"<td class='{kind}'>{shown(value)}"


def _charts(runs: Sequence[_Shown]) -> list[str]:
    """Of each task the losses, of each validation metric one; a colour for each run."""
    names: dict[str, None] = {}
    for run in runs:
        names |= dict.fromkeys(names_of(run.history))
    found = [_losses(task, runs) for task in tasks_of(list(names))]
    found += [_metric(name, runs) for name in names if name.startswith("val/")]
    return [one for one in found if one]


def _losses(task: str, runs: Sequence[_Shown]) -> str:
    drawn: dict[str, list[tuple[float, float]]] = {}
    hues: dict[str, int] = {}
    dashed: list[str] = []
    for place, run in enumerate(runs):
        for kind, prefix in ((TRAIN, "train"), (VALIDATION, "validation")):
            values = points(run.history, f"{prefix}/loss/{task}")
            if any(math.isfinite(value) for _, value in values):
                label = f"{run.label}, {kind}"
                drawn[label] = values
                hues[label] = place
                if kind == TRAIN:
                    dashed.append(label)
    return chart(f"loss of {task}", drawn, "loss", dashed=dashed, hues=hues)


def _metric(name: str, runs: Sequence[_Shown]) -> str:
    known = name.removeprefix("val/")
    result = next((run.result for run in runs if run.result), {})
    drawn = {run.label: points(run.history, name) for run in runs}
    hues = {run.label: place for place, run in enumerate(runs)}
    return chart(f"{known}{arrow(result, known)}", drawn, axis(result, known), hues=hues)


def _settings_table(runs: Sequence[_Shown]) -> str:
    """What each run has otherwise than the first."""
    documents = [parse_toml(read_toml(run.run.experiment), str(run.run.experiment)) for run in runs]
    rows = list[str]()
    for run, own in zip(runs[1:], documents[1:], strict=True):
        lines = map(escape, differing(documents[0], own, ()))
        rows.append(f"<tr><td>{escape(run.label)}<td>{'<br>'.join(lines) or 'the same'}")
    first = escape(runs[0].label)
    return f"<div class='wide'><table><tr><th>run<th>against {first}{''.join(rows)}</table></div>" if rows else ""


def _pictures(run: _Shown) -> str:
    files = sorted(run.run.pictures.glob("*.png"), key=rank) if run.run.pictures.is_dir() else []
    return folded(escape(run.label), "".join(map(picture, files)))
