"""Which charts a run's records give. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mtl_report.curves import chart

_Record = Mapping[str, Any]
History = Sequence[_Record]

_PROBE = "probe/"
_PROBED = {
    "cosine": "probe: cosine of {} with the gradient of the withheld labels",
    "ratio": "probe: size of the gradient of {}, in multiples of that of the withheld labels",
}
"""What ``mtl probe`` writes → title of its chart."""

_TITLES = {
    "train/active": "share of steps in which a task had a label",
    "train/labels": "share of a batch's images that carry a task's label",
    "heads/labels": "share of the images that a task's head learned from by labels",
    "heads/regularizer": "share of the images that a task's head learned from by a regularizer",
    "encoder/weight": "weight of each task's gradient in the encoder",
    "encoder/norm": "norm of each task's gradient at the encoder",
    "encoder/cosine": "cosine between tasks' gradients at the encoder",
    "learning_rate": "learning rate",
    "skipped_steps": "steps that were skipped",
    "train/loss": "training loss, all together",
}

_AXES = {
    "train/active": "share", "train/labels": "share", "heads/labels": "share", "heads/regularizer": "share",
    "encoder/weight": "weight", "encoder/norm": "norm", "encoder/cosine": "cosine", "learning_rate": "rate",
    "skipped_steps": "steps", "train/loss": "loss",
}  # fmt: skip

_ABOUT = {"event", "epoch", "step", "seconds"}

_ARROWS = {True: " ↑", False: " ↓", None: ""}
"""Whether higher is better → what stands behind a metric's name."""

TRAIN, VALIDATION = "training", "validation"


class Charts(NamedTuple):
    """Charts as HTML: what everybody looks at, and the rest."""

    main: list[str]
    more: list[str]


def points(history: History, name: str) -> list[tuple[float, float]]:
    """(epoch from 1, value) of one value of the records."""
    return [(r["epoch"] + 1, math.nan if r.get(name) is None else r[name]) for r in history if name in r]


def names_of(history: History) -> list[str]:
    """The values that any record has, in the order in which they come."""
    found: dict[str, None] = {}
    for record in history:
        for name, value in record.items():
            if name not in _ABOUT and not isinstance(value, str):
                found[name] = None
    return list(found)


def tasks_of(names: Sequence[str]) -> list[str]:
    """The tasks, by their losses."""
    found: dict[str, None] = {}
    for kind in ("train/loss/", "validation/loss/"):
        found |= {name.removeprefix(kind): None for name in names if name.startswith(kind)}
    return list(found)


def charts(history: History, results: _Record) -> Charts:
    """Of each task its losses and its main metric; then the other metrics, and whatever was logged."""
    names = names_of(history)
    metrics = [name for name in names if name.startswith("val/")]
    first = [name for name in metrics if _is_headline(name, results)]
    main = [_losses(task, history) for task in tasks_of(names)] + [_metric(name, history, results) for name in first]
    more = [_metric(name, history, results) for name in metrics if name not in first]
    rest = [n for n in names if not n.startswith(("train/loss/", "validation/loss/", "val/", _PROBE))]
    main += _probes([name for name in names if name.startswith(_PROBE)], history)
    more += [_group_chart(group, members, history) for group, members in _groups(rest).items()]
    return Charts([one for one in main if one], [one for one in more if one])


def _probes(names: Sequence[str], history: History) -> list[str]:
    """Of each term that was probed one chart of cosines, and one of sizes: they have no scale in common."""
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for name in names:
        *term, task, place, what = name.removeprefix(_PROBE).split("/")
        found.setdefault(("/".join(term), what), {})[f"{task}, {place}"] = points(history, name)
    return [chart(_PROBED[what].format(term), curves, what) for (term, what), curves in found.items()]


def _is_headline(name: str, results: _Record) -> bool:
    """Whether a validation metric is the main one of its task; all are, as long as nothing says which is."""
    headline = results.get("headline", {})
    return not headline or name.removeprefix("val/") in headline


def _losses(task: str, history: History) -> str:
    curves = {TRAIN: points(history, f"train/loss/{task}"), VALIDATION: points(history, f"validation/loss/{task}")}
    return chart(f"loss of {task}", curves, "loss", dashed=(TRAIN,))


def _metric(name: str, history: History, results: _Record) -> str:
    known = name.removeprefix("val/")
    title = f"{known}{arrow(results, known)}"
    return chart(title, {VALIDATION: points(history, name)}, axis(results, known), hues={VALIDATION: 1})


def axis(results: _Record, name: str) -> str:
    """A metric's name with its unit."""
    unit = results.get("units", {}).get(name)
    short = name.rpartition("/")[2]
    return f"{short}, {unit}" if unit else short


def arrow(results: _Record, name: str) -> str:
    better = results.get("directions", {}).get(name, results.get("headline", {}).get(name))
    return _ARROWS[better]


def _group_chart(group: str, names: Sequence[str], history: History) -> str:
    curves = {name.removeprefix(f"{group}/"): points(history, name) for name in names}
    return chart(_TITLES.get(group, group), curves, _AXES.get(group, ""))


def _groups(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_group_of(name), []).append(name)
    return found


def _group_of(name: str) -> str:
    """What has three parts is grouped by the first two, such as ``plugin/value/…``; the rest stands alone."""
    parts = name.split("/")
    return name if len(parts) < 3 else "/".join(parts[:2])
