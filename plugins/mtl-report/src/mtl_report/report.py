"""A run's report: one HTML file with settings, results, curves and pictures in it. Imports no torch."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mtl_core import RunFolder, skipped_steps, write_text
from mtl_report.charts import arrow, charts
from mtl_report.legends import keys
from mtl_report.style import document

_FIRST = ("predictions", "best", "worst")
"""Pictures that stand before the others."""

_TITLES = {
    "predictions": "Predictions beside labels",
    "best": "Smallest losses of the split",
    "worst": "Largest losses of the split",
}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` of a run, from what its folder holds.

    :return: the file
    """
    run = RunFolder(folder).require()
    path = run.folder / "report.html"
    write_text(path, _page(run))
    return path


def _page(run: RunFolder) -> str:
    result = results_of(run)
    history = run.history()
    name = escape(str(result.get("name", run.folder.name)))
    found = charts(history, result)
    parts = [
        f"<h1>{name}</h1><small>{escape(_summary(result, history))}</small>",
        _warnings(run, result),
        _results_table(result),
        _class_table(result),
        section("Curves", curves(found.main), "Over the epochs; the legend gives the last value."),
        folded("Further curves: other metrics, learning rate, labels, what plugins log", curves(found.more)),
        _pictures(run),
        _heads_table(history),
        _parameters(result),
        f"<h2>Settings</h2><pre>{escape(run.experiment.read_text(encoding='utf-8'))}</pre>",
        _versions(run),
    ]
    return document(name, "".join(parts))


def results_of(run: RunFolder) -> dict[str, Any]:
    """The run's ``results.json``; nothing where it is not finished."""
    found: dict[str, Any] = json.loads(run.results.read_text(encoding="utf-8")) if run.results.is_file() else {}
    return found


def section(title: str, content: str, about: str = "") -> str:
    """A heading, a line about it, and the content; nothing where there is no content."""
    if not content:
        return ""
    explained = f"<p>{about}</p>" if about else ""
    return f"<h2>{title}</h2>{explained}{content}"


def folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>" if content else ""


def curves(found: Sequence[str]) -> str:
    return f"<div class='charts'>{''.join(found)}</div>" if found else ""


def _warnings(run: RunFolder, result: Mapping[str, Any]) -> str:
    """What is wrong with the run's numbers, and what was reported while it trained."""
    bad = "; ".join(result.get("problems", ()))
    lines = [f"<strong>The numbers of this run cannot be used: {escape(bad)}.</strong>"] if bad else []
    lines += [f"<strong>{skipped}</strong>"] if (skipped := skipped_steps(run)) else []
    lines += [escape(warning["message"]) for warning in run.warned() if warning["message"] != skipped]
    return "".join(f"<p class='warn'>{line}</p>" for line in lines)


def _summary(result: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    if not result:
        return f"not finished: {len(history)} epochs so far"
    seconds = result.get("runtime_seconds")
    device = result.get("device")
    parts = [
        f"seed {result['seed']}, {result['split']} split, {result['checkpoint']} checkpoint, {len(history)} epochs",
        f"{seconds / 60:.1f} min" if seconds else "",
        f"on {device}" if device else "",
    ]
    return ", ".join(filter(None, parts))


def _results_table(result: Mapping[str, Any]) -> str:
    units = result.get("units", {})
    rows = []
    for name, value in result.get("metrics", {}).items():
        task, _, metric = name.partition("/")
        title = f"{escape(with_unit(metric, units.get(name)))}{arrow(result, name)}"
        rows.append(f"<tr><td>{escape(task)}</td><td class='w'>{title}</td><td class='n'>{shown(value)}</td></tr>")
    table = f"<table><tr><th>task<th>metric<th class='n'>value</tr>{''.join(rows)}</table>"
    return section("Results", table if rows else "")


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def with_unit(metric: str, unit: str | None) -> str:
    return f"{metric} {unit}" if unit else metric


def _class_table(result: Mapping[str, Any]) -> str:
    """The overlap of every class, of each task that has classes."""
    tables = []
    for task, found in _by_class(result).items():
        rows = "".join(_class_row(name, value) for name, value in found.items())
        head = f"<tr><th>{escape(task)}<th class='n'>IoU %<th>"
        tables.append(f"<table>{head}{rows}</table>")
    return folded("IoU of each class", "".join(tables))


def _class_row(name: str, value: float | None) -> str:
    """A class, its overlap in per cent, and a bar of 120 pixels for all of it."""
    width = max(0.0, value or 0.0) * 1.2
    bar = f"<span class='meter' style='width:{width:.0f}px'></span>"
    return f"<tr><td>{escape(name)}<td class='n'>{shown(value)}<td>{bar}"


def _by_class(result: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Task → class → IoU, of the results' details ``task/iou/class``."""
    found: dict[str, dict[str, float | None]] = {}
    for name, value in result.get("details", {}).items():
        task, separator, kind = name.partition("/iou/")
        if separator:
            found.setdefault(task, {})[kind] = value
    return found


def _heads_table(history: Sequence[Mapping[str, Any]]) -> str:
    """Who trained which head in the last epoch."""
    last = history[-1] if history else {}
    names = [name.removeprefix("train/labels/") for name in last if name.startswith("train/labels/")]
    rows = "".join(_heads_row(name, last) for name in names)
    head = "<tr><th>task<th class='n'>carry its label<th class='n'>trained by label<th class='n'>by a regularizer"
    about = (
        "Share of the images in the last epoch; with one image both may train a head. A head that nothing trained stays"
        " what it was at the start."
    )
    table = f"<div class='wide'><table>{head}{rows}</table></div>"
    return section("Who trained which head", table if rows else "", about)


def _heads_row(name: str, last: Mapping[str, Any]) -> str:
    shares = [last.get(f"{kind}/{name}") for kind in ("train/labels", "heads/labels", "heads/regularizer")]
    return f"<tr><td>{escape(name)}{''.join(map(_percent, shares))}"


def _percent(value: float | None) -> str:
    return f"<td class='n'>{'–' if value is None else f'{100 * value:.1f} %'}"


def _parameters(result: Mapping[str, Any]) -> str:
    counts: Mapping[str, int] = result.get("parameters", {})
    rows = "".join(f"<tr><td>{escape(name)}<td class='n'>{count:,}" for name, count in counts.items())
    total = f"<tr><td>together<td class='n b'>{sum(counts.values()):,}"
    return section("Parameters", f"<table>{rows}{total}</table>" if rows else "")


def _pictures(run: RunFolder) -> str:
    """The run's pictures, inside the page, each with what its colours mean."""
    files = sorted(run.pictures.glob("*.png"), key=rank) if run.pictures.is_dir() else []
    return section("Pictures", "".join(map(picture, files)))


def rank(path: Path) -> tuple[int, str]:
    """Where a picture stands among the others."""
    kind = path.stem.partition("-")[0]
    return (_FIRST.index(kind) if kind in _FIRST else len(_FIRST)), path.stem


def picture(path: Path) -> str:
    about = _read_about(path)
    rows = ", ".join(map(str, about.get("rows", ())))
    caption = f"<p><small>rows: {escape(rows)}</small></p>" if rows else ""
    heading = f"<h3>{escape(_title_of(path.stem))}</h3>"
    return f"{heading}{caption}<div class='wide'>{_embedded(path)}</div>{keys(about.get('keys', ()))}"


def _title_of(name: str) -> str:
    """What a picture's file is called in the page, such as ``best-val``."""
    kind, _, rest = name.partition("-")
    if kind not in _TITLES:
        return name
    return f"{_TITLES[kind]} ({rest})" if rest else _TITLES[kind]


def _read_about(path: Path) -> dict[str, Any]:
    """What stands beside a picture; nothing of those that older versions drew."""
    beside = path.with_suffix(".json")
    found: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    return found


def _embedded(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{escape(path.stem)}' src='data:image/png;base64,{data}'>"


def _versions(run: RunFolder) -> str:
    path = run.folder / "versions.json"
    return f"<h2>Versions</h2><pre>{escape(path.read_text(encoding='utf-8'))}</pre>" if path.is_file() else ""
