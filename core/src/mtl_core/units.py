"""Units of the metrics of core's tasks."""

from __future__ import annotations

from collections.abc import Iterable

from mtl_core.tasks import Depth, Tasks

UNITS = {
    "miou": "%", "pixel_accuracy": "%", "ods_f": "%", "top1": "%", "mean_angle": "°", "median_angle": "°",
    "within_11.25": "%", "within_22.5": "%", "within_30": "%",
}  # fmt: skip


def units(tasks: Tasks, metrics: Iterable[str]) -> dict[str, str]:
    """``task/metric`` → its unit, of those that have one: an error of depth is in metres, a disparity has none."""
    metres = {task.name for task in tasks if isinstance(task, Depth) and not task.disparity}
    found = {}
    for name in metrics:
        task, _, metric = name.partition("/")
        found[name] = "m" if task in metres and metric in ("abs_err", "rmse") else UNITS.get(metric, "")
    return {name: unit for name, unit in found.items() if unit}
