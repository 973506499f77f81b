"""A run that has ended, with its network at hand: what the hook ``after_run`` is given."""

from __future__ import annotations

import logging
from pathlib import Path
from statistics import fmean

import attrs
import lightning_fabric
import torch
from torch import nn

from mtl_core.commands.observers import open_observers
from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import Batch
from mtl_core.seeds import generator_for
from mtl_core.step.finished_run import Drawings, Examples, FinishedRun
from mtl_core.step.step import Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.build_step import build_step
from mtl_core.training.evaluating import evaluating
from mtl_core.training.loader import evaluation_loader
from mtl_core.training.network import as_float
from mtl_core.training.session import Model, Session

_log = logging.getLogger("mtl")


@attrs.define(eq=False)
class EndedRun(FinishedRun):
    """The :class:`FinishedRun` of a folder.

    :param model: on the device
    :param evaluated: the data that were evaluated, with their labels
    """

    folder: Path
    model: Model
    fabric: lightning_fabric.Fabric
    evaluated: BlankedDataset | None = None
    suffix: str = ""
    images: dict[int, dict[str, float]] = attrs.field(factory=dict)
    """Position in the evaluated data → task → loss."""

    @property
    def tasks(self) -> Tasks:  # type: ignore[override]  # the protocol's attribute, read-only here
        return self.model.tasks

    @torch.no_grad()
    def examples(self, count: int) -> Examples | None:
        if self.evaluated is None or len(self.evaluated) == 0:
            return None
        return self._predicted(self.evaluated, _spread_places(len(self.evaluated), count))

    @torch.no_grad()
    def extremes(self, count: int) -> dict[str, Examples]:
        ranked = _by_loss(self.images)
        if self.evaluated is None or len(ranked) <= 2 * count:
            return {}
        chosen = {"best": ranked[:count], "worst": ranked[: -count - 1 : -1]}
        return {title: self._predicted(self.evaluated, places) for title, places in chosen.items()}

    def _predicted(self, data: BlankedDataset, places: list[int]) -> Examples:
        batch = _batch_of(data, places)
        with evaluating(self.model.network), self.fabric.autocast():
            predictions = self.model.network(batch.images.to(self.fabric.device))
        names = data.dataset.names
        titles = [str(place) if names is None else names[place] for place in places]
        return Examples(batch, {name: prediction.cpu() for name, prediction in predictions.items()}, titles)

    @torch.no_grad()
    def drawings(self, count: int) -> Drawings | None:
        hooks = self.model.hooks
        if not isinstance(self.model, Session) or not hooks.has("draw_pictures"):
            return None
        data = BlankedDataset(self.model.dataset, self.model.labelled)
        batch = _batch_of(data, _spread_places(len(data), count))
        modules = [p for p in hooks.plugins.values() if isinstance(p, nn.Module)]
        # plugins too: a regularizer with networks of its own has batch norm and dropout of its own
        with evaluating(self.model.network, *modules), self.fabric.autocast():
            step = _step_of(self.model, _to_device(batch, self.fabric.device))
            return Drawings(batch, hooks.draw_pictures(step))


def call_after_run(run: EndedRun) -> None:
    """Call ``after_run`` of the experiment's plugins and of the observers.

    The run is finished: an error in here is reported and changes nothing of it.
    """
    for hooks in (run.model.hooks, open_observers()):
        try:
            hooks.after_run(run)
        except Exception as error:
            notes = "; ".join(getattr(error, "__notes__", ()))
            _log.warning("%s: the run is finished, but `after_run` failed: %s (%s)", run.folder, error, notes)


def _by_loss(images: dict[int, dict[str, float]]) -> list[int]:
    """Positions from the smallest loss to the largest, each task's losses divided by their mean."""
    losses: dict[str, list[float]] = {}
    for found in images.values():
        for task, loss in found.items():
            losses.setdefault(task, []).append(loss)
    means = {task: fmean(values) or 1.0 for task, values in losses.items()}
    scores = {
        place: fmean(loss / means[task] for task, loss in found.items()) for place, found in images.items() if found
    }
    return sorted(scores, key=lambda place: (scores[place], place))


def _spread_places(size: int, count: int) -> list[int]:
    """Some positions, evenly spread over the data."""
    return list(range(size))[:: max(1, size // count)][:count]


def _batch_of(data: BlankedDataset, places: list[int]) -> Batch:
    (batch,) = list(evaluation_loader(data.dataset, data.labelled, places, len(places)))
    made: Batch = batch
    return made


def _step_of(model: Model, batch: Batch) -> Step:
    """A step of one view as regularizers see it, of images that nothing augments."""
    network = model.network
    images = as_float(batch.images)
    z = network.backbone(images)
    predictions = network.decode([z] * len(network.tasks))
    views = {name: prediction[None] for name, prediction in predictions.items()}
    generator = generator_for(model.experiment.seed, "draw")
    return build_step(network.tasks, batch, images[None], views, z, generator, model.experiment.normalize)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    targets = {name: target.to(device) for name, target in batch.targets.items()}
    return Batch(batch.images.to(device), targets, batch.labelled.to(device), batch.index.to(device))
