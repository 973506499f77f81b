"""A data-set plugin by its entry-point name, with options, for commands that look at data and train nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs

from mtl_core import Experiment, MultiTaskDataset, open_hooks, parse_experiment


@attrs.frozen(eq=False)
class Source:
    """
    :param name: of the plugin
    :param plugin: the plugin with its options
    """

    name: str
    plugin: Any

    @property
    def options(self) -> dict[str, Any]:
        return {option.name: getattr(self.plugin, option.name) for option in attrs.fields(type(self.plugin))}

    def build(self, split: str) -> MultiTaskDataset:
        """:raises mtl_core.MtlError: there is no such split, or its files are missing or not of the expected form"""
        experiment = Experiment(name="data", plugins={self.name: self.plugin})
        return open_hooks(experiment, ("build_dataset",)).build_dataset(split)

    def changed(self, **options: Any) -> Source:
        """With other values of those of these options that the plugin has."""
        known = {name: value for name, value in options.items() if name in self.options}
        return Source(self.name, attrs.evolve(self.plugin, **known))

    def only(self, task: str) -> Source | None:
        """With one task; None where the plugin has no option for its tasks."""
        return self.changed(tasks=(task,)) if "tasks" in self.options else None


def source(name: str, overrides: Sequence[str] = ()) -> Source:
    """
    :param name: of a plugin, or a folder: mtl-folder's plugin with this root
    :param overrides: ``OPTION=VALUE``
    :raises mtl_core.ExperimentError: there is no such plugin, or an option is missing or wrong
    """
    if name not in entry_points(group="mtl.plugins").names and Path(name).is_dir():  # ./NAME is always a folder
        name, overrides = "folder", [f"root={json.dumps(name)}", *overrides]
    text = f'name = "data"\n[plugins."{name}"]\n'
    experiment = parse_experiment(text, "mtl data", [f"plugins.{name}.{override}" for override in overrides])
    open_hooks(experiment, ("build_dataset",))
    return Source(name, next(iter(experiment.plugins.values())))
