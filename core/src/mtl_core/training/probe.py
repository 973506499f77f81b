"""A regularizer's gradient at unlabelled predictions, compared with that of the labels that are withheld.

A mask withholds labels that the data have. At predictions without a label, the loss of the withheld label would give
the gradient that the network lacks; a regularizer gives another one in its place. Their cosine says whether both point
the same way, their ratio how much larger the regularizer's is. The training is what it would be without a probe.

Shape letters: V views, B samples, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import attrs
import lightning_fabric
import torch
from torch import Tensor

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import Batch, collate
from mtl_core.errors import MtlError
from mtl_core.seeds import generator_for, seed_torch
from mtl_core.step.step import Step
from mtl_core.training.buffers import BufferGuard
from mtl_core.training.build_step import build_step
from mtl_core.training.losses import global_term, sample_losses
from mtl_core.training.plugin_state import stateful
from mtl_core.training.session import Session
from mtl_core.training.step import TrainingStep

_Gradients = Sequence[Tensor | None]
_SUPERVISED = "labels"
"""What the record calls the gradient of the labels that the mask leaves, a reference for the regularizers'."""


class _Probed(NamedTuple):
    """A batch as training sees it, and what it does not see.

    :param targets: task → (B, …), every label that the data have
    :param withheld: bool (B, K): the data have a label, the run does not
    """

    batch: Batch
    targets: dict[str, Tensor]
    withheld: Tensor


@attrs.define
class _Agreement:
    """Sums over the batches, of which the cosine and the ratio are made."""

    product: float = 0.0
    squares: float = 0.0
    true_squares: float = 0.0

    def add(self, gradients: _Gradients, true: _Gradients) -> None:
        for one, other in zip(gradients, true, strict=True):
            if one is not None:
                self.squares += float(one.double().square().sum())
            if other is not None:
                self.true_squares += float(other.double().square().sum())
            if one is not None and other is not None:
                self.product += float((one.double() * other.double()).sum())

    def record(self) -> dict[str, float]:
        if not self.squares or not self.true_squares:
            return {}
        both = (self.squares * self.true_squares) ** 0.5
        return {"cosine": self.product / both, "ratio": (self.squares / self.true_squares) ** 0.5}


class Probe:
    """Compares gradients on fixed training batches, each time the network as it is then.

    :param session: the run's data, mask and plugins
    :param step: the run's step, on its device
    :param count: how many batches
    :raises MtlError: no training sample has a label that the mask withholds; or there are several processes
    """

    def __init__(self, session: Session, step: TrainingStep, fabric: lightning_fabric.Fabric, count: int) -> None:
        if fabric.world_size > 1:
            raise MtlError(f"probe: {fabric.world_size} processes; a probe needs one: use devices = 1")
        self._step = step
        self._hooks = session.hooks
        self._fabric = fabric
        self._seed = session.experiment.seed
        self._batches = [fabric.to_device(batch) for batch in _batches(session, count)]
        self._guard = BufferGuard(list(step.buffers()))

    def measure(self) -> dict[str, float]:
        """``probe/PLUGIN/TERM/TASK/PLACE/cosine`` and ``…/ratio``, the regularizer's gradient against the true one.

        PLACE is ``predictions``, ``head`` (its parameters) or ``encoder`` (its parameters): the last two from the
        unlabelled predictions of that task alone. A regularizer that gives a task no gradient has no line there.
        """
        sums: dict[str, _Agreement] = {}
        with self._undisturbed():
            for number, probed in enumerate(self._batches):
                seed_torch(self._fabric.device, self._seed, "probe", number)
                for name, own, true in self._compare(probed, number):
                    sums.setdefault(name, _Agreement()).add(own, true)
        record: dict[str, float] = {}
        for name, sum_ in sums.items():
            record |= {f"probe/{name}/{key}": value for key, value in sum_.record().items()}
        return record

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Put back what a forward pass in training mode changes: buffers and the state of plugins."""
        states = [(plugin, _copied(plugin.state_dict())) for plugin in stateful(self._hooks).values()]
        training = self._step.training
        self._guard.save()
        self._step.train()
        try:
            yield
        finally:
            self._guard.restore(torch.tensor(True, device=self._fabric.device))
            self._step.train(training)
            for plugin, state in states:
                plugin.load_state_dict(state)

    def _compare(self, probed: _Probed, number: int) -> Iterator[tuple[str, _Gradients, _Gradients]]:
        """Name, a regularizer's gradients and those of the withheld labels."""
        with self._fabric.autocast():
            step = self._forward(probed.batch, number)
            terms = self._hooks.compute_regularizer(step)
            first = {name: prediction[0] for name, prediction in step.predictions.items()}
            losses = sample_losses(step.tasks, first, probed.targets, probed.withheld) / len(probed.withheld)
        predictions = list(step.predictions.values())
        regularizers = {
            name: torch.autograd.grad(value, predictions, retain_graph=True, allow_unused=True)
            for name, term in terms.items()
            if (value := global_term(term)).requires_grad
        }
        for k, name in enumerate(step.tasks.names):
            if not probed.withheld[:, k].any():
                continue
            (at_prediction,) = torch.autograd.grad(losses[:, k].sum(), predictions[k], retain_graph=True)
            true = self._places(name, predictions[k], at_prediction)
            for term, found in regularizers.items():
                if (gradient := found[k]) is None:
                    continue
                gradient = _masked(gradient, probed.withheld[:, k])
                for place, own in self._places(name, predictions[k], gradient).items():
                    yield f"{term}/{name}/{place}", own, true[place]
            (labels,) = torch.autograd.grad(step.losses[:, k].sum(), predictions[k], retain_graph=True)
            labels = labels / len(probed.withheld)
            for place, own in self._places(name, predictions[k], labels).items():
                if place != "predictions":  # other samples' predictions: always orthogonal there
                    yield f"{_SUPERVISED}/{name}/{place}", own, true[place]

    def _forward(self, batch: Batch, number: int) -> Step:
        """The step without the seam: nothing is optimized."""
        generator = generator_for(self._seed, "probe", number)
        network = self._step.network
        images, windows = self._step.views_of(batch.images, generator)
        z, deepest = network.encode(images.flatten(0, 1))
        flat = network.decode([z] * len(self._step.tasks))
        predictions = {name: p.view(self._step.views, -1, *p.shape[1:]) for name, p in flat.items()}
        step = build_step(self._step.tasks, batch, images, predictions, z, generator, self._step.normalize)
        step.deepest = deepest
        step.windows = windows
        step.progress = self._step.progress
        step.shared = generator_for(self._seed, "probe, shared", number)
        return step

    def _places(self, name: str, prediction: Tensor, gradient: Tensor) -> dict[str, _Gradients]:
        """A gradient at a task's predictions (V, B, O_t, …), there and carried on to the parameters below."""
        head = [p for p in self._step.network.heads[name].parameters() if p.requires_grad]
        encoder = [p for p in self._step.network.backbone.parameters() if p.requires_grad]
        # the same graph is passed several times, for each regularizer and for the labels
        carried = torch.autograd.grad(
            prediction, [*head, *encoder], gradient.to(prediction.dtype), retain_graph=True, allow_unused=True
        )
        return {"predictions": [gradient], "head": carried[: len(head)], "encoder": carried[len(head) :]}


def _masked(gradient: Tensor, chosen: Tensor) -> Tensor:
    """(V, B, …), 0 but for the samples that are chosen, (B,)."""
    return gradient * chosen.view(1, -1, *[1] * (gradient.ndim - 2)).to(gradient.dtype)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(one) for one in value)
    return value


def _withheld(session: Session) -> Tensor:
    """Labels that the data have and the run does not see, bool (N, K of the run)."""
    # as the data set gives them: `relabel` may have put pseudo-labels in their places
    data = session.given.dataset
    own = torch.ones(len(data), len(data.tasks), dtype=torch.bool) if data.labelled is None else data.labelled
    known = torch.zeros_like(session.labelled)
    for k, name in enumerate(session.tasks.names):
        if name in data.tasks.names:
            known[:, k] = own[:, data.tasks.position(name)]
    return known & ~session.labelled


def _batches(session: Session, count: int) -> list[_Probed]:
    """Fixed batches of training samples that lack a label; augmentations of single samples are left out."""
    withheld = _withheld(session)
    train, _ = session.split()
    places = torch.tensor([place for place in train if withheld[place].any()], dtype=torch.long)
    if not len(places):
        raise MtlError(
            "probe: the mask withholds no label that the data have, so there is nothing to compare with; use a label"
            " scenario such as one label per image"
        )
    order = torch.randperm(len(places), generator=generator_for(session.experiment.seed, "probe"))
    size = session.experiment.batch_size
    chosen = places[order[: count * size]]
    return [_probed(session, withheld, part.tolist()) for part in torch.split(chosen, size)]


def _probed(session: Session, withheld: Tensor, places: list[int]) -> _Probed:
    seen = BlankedDataset(session.dataset, session.labelled)
    batch = collate([seen[place] for place in places])
    data = session.given.dataset
    samples = [data[place] for place in places]
    targets = dict(batch.targets)
    for k, name in enumerate(session.tasks.names):
        # a copy of the blank label, with the true one where it is withheld
        targets[name] = batch.targets[name].clone()
        for row, place in enumerate(places):
            if withheld[place, k]:
                targets[name][row] = samples[row].targets[name]
    return _Probed(batch, targets, withheld[places])
