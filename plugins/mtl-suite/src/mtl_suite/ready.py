"""Whether a suite's runs can begin on this machine: data, splits, weights and device, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch

from mtl_core import (
    Experiment,
    MtlError,
    MultiTaskDataset,
    dump_experiment,
    generator_for,
    make_fabric,
    open_hooks,
    options_of,
    parse_experiment,
    parse_toml,
)
from mtl_suite.jobs import Job
from mtl_suite.plan import Suite

_FILES = ("root", "path", "weights")
"""Options that name a file or folder; looked for only where the plugin itself cannot be asked."""

_Made = TypeVar("_Made")


def missing(suite: Suite) -> list[str]:
    """What the suite's experiments need and this machine does not have, a line each, in the plugins' own words."""
    look = _Look()
    for job in _first_of_each(suite):
        look.at(parse_experiment(job.text, job.title))
    return list(look.problems)


def _first_of_each(suite: Suite) -> list[Job]:
    """The jobs of the first seed: other seeds need the same files."""
    return [job for job in suite.jobs if job.seed == suite.settings.seeds[0]]


@attrs.define
class _Look:
    """Opens each data set, split and network once, and keeps what is wrong with them."""

    opened: dict[str, Any] = attrs.field(factory=dict)
    problems: dict[str, None] = attrs.field(factory=dict)

    def at(self, experiment: Experiment) -> None:
        hooks = self._once(f"hooks {dump_experiment(experiment)}", lambda: open_hooks(experiment))
        if hooks is None:
            return
        place = _settings(experiment, hooks.places["build_dataset"])
        data: MultiTaskDataset | None = self._once(f"train {place}", lambda: hooks.build_dataset("train"))
        self._once(f"test {place}", lambda: hooks.build_dataset("test"))
        extra = [_settings(experiment, name) for name, _ in hooks.implementations("build_extra_datasets")]
        self._once(f"extra {place} {extra}", hooks.build_extra_datasets)
        if hooks.has("before_run"):  # its data may be complete only then, such as with labels that models make
            self._named_files(experiment)
            return
        size = None if data is None else self._once(f"sample {place}", lambda: _size(data))
        if data is None or size is None:
            self._named_files(experiment)
            return
        mask = _settings(experiment, hooks.places["make_label_mask"])
        self._once(f"mask {place} {mask}", lambda: _draw_mask(experiment, hooks, data))
        network = _settings(experiment, hooks.places["build_backbone"])
        self._once(f"network {size} {network}", lambda: hooks.build_backbone(size) and True)

    def _once(self, key: str, make: Callable[[], _Made]) -> _Made | None:
        """Make something unless it was made before; None, and a problem noted, where the user has to do something."""
        if key not in self.opened:
            try:
                self.opened[key] = make()
            except (MtlError, OSError) as error:
                self.problems[" ".join(str(error).split())] = None
                self.opened[key] = None
        made: _Made | None = self.opened[key]
        return made

    def _named_files(self, experiment: Experiment) -> None:
        """Files that are not there, of plugins that look for them only with the data at hand, or in the run."""
        for key, name in _files(parse_toml(dump_experiment(experiment), experiment.name)["plugins"], "plugins"):
            path = Path(name).expanduser()
            if not path.exists() and not any(str(path) in problem for problem in self.problems):
                self.problems[f"{path}: no such file or folder; put there what {key} names, or --set {key}=PATH"] = None


def _size(data: MultiTaskDataset) -> tuple[int, int]:
    height, width = data[0].image.shape[-2:]
    return height, width


def _settings(experiment: Experiment, plugin: str) -> str:
    return f"{plugin} {options_of(experiment.plugins[plugin])}"


def _draw_mask(experiment: Experiment, hooks: Any, data: MultiTaskDataset) -> object:
    return hooks.make_label_mask(len(data), data.tasks, generator_for(experiment.seed, "labels"), data.names)


def _files(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _files(value, f"{above}.{key}")
        elif key in _FILES and isinstance(value, str) and value not in ("", "none"):
            yield f"{above}.{key}", value


def devices(jobs: Sequence[Job]) -> list[str]:
    """The kinds of device that the jobs would train on here.

    :raises MtlError: an experiment asks for one that this machine does not have
    """
    kinds: dict[tuple[object, ...], Experiment] = {}
    for job in jobs:
        one = parse_experiment(job.text, job.title)
        kinds[one.device, one.devices, one.nodes, one.strategy] = one
    return sorted({make_fabric(experiment).device.type for experiment in kinds.values()})


def device_name(kind: str) -> str:
    """A device as a person calls it."""
    if kind != "cuda":
        return kind
    return f"cuda ({torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB)"


def no_accelerator(suite: Suite) -> str | None:
    """Why a table at the papers' scale should not be started as it is, or None."""
    runs = len(suite.jobs)
    if suite.engine.cluster == "slurm":
        if suite.engine.gpus:
            return None
        return (
            f"device: each of the {runs} jobs would ask Slurm for no GPU; use --gpus 1, or --any-device to start it so"
        )
    if set(devices(suite.jobs)) != {"cpu"}:
        return None
    return (
        f"device: this machine has no accelerator, and {runs} runs of up to {max(job.epochs for job in suite.jobs)}"
        " epochs at the papers' scale are not for a CPU; start it where a GPU is, or with --cluster slurm --gpus 1;"
        " --cost measures what it would take here, docs/examples/suites/small has tables at a laptop's scale, and"
        " --any-device starts it anyway"
    )
