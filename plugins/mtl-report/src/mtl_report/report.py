"""A run's report: one HTML file with settings, results, curves and pictures in it. Imports no torch."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mtl_core import RunFolder, skipped_steps, write_text
from mtl_report.curves import chart

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; } small { opacity: .7; }
table { border-collapse: collapse; }
td, th { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.charts { display: flex; flex-wrap: wrap; gap: 1.2rem; }
figure { margin: 0; width: 420px; } figcaption { font-weight: 600; }
svg { width: 100%; background: #8881; border-radius: 4px; } svg text { font: 11px system-ui; fill: currentColor; }
svg .e { text-anchor: end; } svg .m { text-anchor: middle; } svg .g { stroke: var(--line); }
polyline { fill: none; stroke-width: 1.8; }
.legend { font-size: 12px; } .legend span { margin-right: 1em; white-space: nowrap; }
.legend i { display: inline-block; width: 10px; height: 10px; margin-right: 4px; border-radius: 2px; }
.wide { overflow-x: auto; }
pre { overflow: auto; background: #8881; padding: .8rem; border-radius: 4px; }
"""

TITLES = {
    "train/loss": "training loss per task (mean over its labels)",
    "train/active": "share of steps in which a task had a label",
    "train/labels": "share of a batch's images that carry a task's label",
    "heads/labels": "share of the images that a task's head learned from by labels",
    "heads/regularizer": "share of the images that a task's head learned from by a regularizer",
    "encoder/weight": "weight of each task's gradient in the encoder",
    "encoder/norm": "norm of each task's gradient at the encoder",
    "encoder/cosine": "cosine between tasks' gradients at the encoder",
}

ABOUT = {"event", "epoch", "step", "seconds"}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` of a run, from what its folder holds.

    :return: the file
    """
    run = RunFolder(folder).require()
    path = run.folder / "report.html"
    write_text(path, page(run))
    return path


def page(run: RunFolder) -> str:
    result = json.loads(run.results.read_text(encoding="utf-8")) if run.results.is_file() else {}
    history = run.history()
    name = escape(str(result.get("name", run.folder.name)))
    parts = [
        f"<h1>{name}</h1><small>{escape(summary(result, history))}</small>",
        f"<p><strong>{skipped}</strong></p>" if (skipped := skipped_steps(run)) else "",
        problems(result),
        results_table(result),
        heads_table(history),
        pictures(run),
        "<h2>Curves</h2><p>Over the epochs; the legend gives the last value.</p><div class='charts'>"
        + "".join(charts(history))
        + "</div>",
        f"<h2>Settings</h2><pre>{escape(run.experiment.read_text(encoding='utf-8'))}</pre>",
        versions(run),
    ]
    head = f"<meta charset='utf-8'><title>{name}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'>{head}{''.join(parts)}</html>"


def problems(result: dict[str, Any]) -> str:
    """Why the run's numbers cannot be used, if so."""
    found = "; ".join(result.get("problems", ()))
    return f"<p><strong>The numbers of this run cannot be used: {escape(found)}.</strong></p>" if found else ""


def summary(result: dict[str, Any], history: Sequence[dict[str, Any]]) -> str:
    if not result:
        return f"not finished: {len(history)} epochs so far"
    seconds = result.get("runtime_seconds")
    took = f", {seconds / 60:.1f} min" if seconds else ""
    evaluated = f"seed {result['seed']}, {result['split']} split, {result['checkpoint']} checkpoint"
    return f"{evaluated}, {len(history)} epochs{took}"


def results_table(result: dict[str, Any]) -> str:
    headline = result.get("headline", {})
    units = result.get("units", {})
    rows = [
        f"<tr><td>{escape(name.partition('/')[0])}</td>"
        f"<td>{escape(with_unit(name.partition('/')[2], units.get(name)))}{arrow(headline.get(name))}</td>"
        f"<td class='n'>{'–' if value is None else f'{value:.4g}'}</td></tr>"
        for name, value in result.get("metrics", {}).items()
    ]
    table = f"<table><tr><th>task<th>metric<th>value</tr>{''.join(rows)}</table>"
    return f"<h2>Results</h2>{table}" if rows else ""


def with_unit(metric: str, unit: str | None) -> str:
    return f"{metric} {unit}" if unit else metric


def heads_table(history: Sequence[dict[str, Any]]) -> str:
    """Who trained which head in the last epoch."""
    last = history[-1] if history else {}
    names = [name.removeprefix("train/labels/") for name in last if name.startswith("train/labels/")]
    columns = ("train/labels", "heads/labels", "heads/regularizer")
    rows = "".join(
        f"<tr><td>{escape(name)}{''.join(percent(last.get(f'{c}/{name}')) for c in columns)}" for name in names
    )
    head = "<tr><th>task<th class='n'>carry its label<th class='n'>trained by label<th class='n'>by a regularizer"
    about = (
        "Share of the images in the last epoch; with one image both may train a head. A head that nothing trained stays"
        " what it was at the start."
    )
    return f"<h2>Who trained which head</h2><p>{about}<table>{head}{rows}</table>" if rows else ""


def percent(value: float | None) -> str:
    return f"<td class='n'>{'–' if value is None else f'{100 * value:.1f} %'}"


def arrow(higher_is_better: bool | None) -> str:
    return "" if higher_is_better is None else " ↑" if higher_is_better else " ↓"


def pictures(run: RunFolder) -> str:
    """The run's pictures, inside the page."""
    files = sorted(run.pictures.glob("*.png")) if run.pictures.is_dir() else []
    shown = [f"<h3>{escape(f.stem)}</h3><div class='wide'>{embedded(f)}</div>" for f in files]
    return f"<h2>Pictures</h2>{''.join(shown)}" if shown else ""


def embedded(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{escape(path.stem)}' src='data:image/png;base64,{data}'>"


def charts(history: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One chart per group of values that share a prefix, such as ``plugin/value/…``."""
    for group, names in groups(history).items():
        curves = {name.removeprefix(f"{group}/"): curve(history, name) for name in names}
        yield chart(TITLES.get(group, group), curves)


def curve(history: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """(epoch, value) of every epoch that has the value; NaN where it is null, as JSON writes NaN."""
    points = []
    for record in history:
        if name in record:
            value = record[name]
            points.append((record["epoch"] + 1, math.nan if value is None else value))
    return points


def groups(history: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    names: dict[str, None] = {}
    for record in history:
        names |= dict.fromkeys(name for name, value in record.items() if not isinstance(value, str))
    found: dict[str, list[str]] = {}
    for name in names:
        if name not in ABOUT:
            found.setdefault(group_of(name), []).append(name)
    return found


def group_of(name: str) -> str:
    """Validation metrics stand alone (their units differ); what has three parts is grouped by the first two."""
    parts = name.split("/")
    return name if parts[0] == "val" or len(parts) < 3 else "/".join(parts[:2])


def versions(run: RunFolder) -> str:
    path = run.folder / "versions.json"
    return f"<h2>Versions</h2><pre>{escape(path.read_text(encoding='utf-8'))}</pre>" if path.is_file() else ""
