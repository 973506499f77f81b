"""A bank of batches through every method in a real trainer.

What is finite stays finite; a batch whose gradient is not finite is skipped and counted, changes nothing, and the next
one works.
"""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor, nn
from torchjd_settings import SETTINGS

from mtl_auxiliary import GCS, OLAUX, AutoLambda
from mtl_core import Batch, Experiment, MtlError, RunFolder, make_fabric
from mtl_core.testing import ToyData, ToyNetwork, Trainer, prepare
from mtl_ial import IAL
from mtl_labels import Full
from mtl_torchjd import TorchJD, catalogue
from mtl_weighting.atw import ATW
from mtl_weighting.dwa import DWA
from mtl_weighting.fixed_weights import FixedWeights
from mtl_weighting.gradnorm import GradNorm
from mtl_weighting.imtl import IMTL
from mtl_weighting.miraliev import Miraliev
from mtl_weighting.nash import NashMTL
from mtl_weighting.puw import PUW
from mtl_weighting.rlw import RLW
from mtl_weighting.uniform import Uniform
from mtl_weighting.uw import UW
from mtl_weighting.uw_so import UWSO

TASKS = ("segmentation", "depth", "normals")


def torchjd(kind: str, name: str) -> TorchJD:
    return TorchJD(**{kind: name}, settings=SETTINGS.get(name, {}))


METHODS: dict[str, object] = {
    **{f"ial {m}": IAL(primary="depth", measure=m) for m in ("uncertainty", "fixed", "speed", "norm", "cosine")},
    "ial own norms": IAL(primary="depth", match_norms=False),
    "uniform": Uniform(), "fixed-weights": FixedWeights(primary="depth"), "uw": UW(), "dwa": DWA(), "rlw": RLW(),
    "uw-so": UWSO(), "atw": ATW(), "miraliev": Miraliev(objectives=("dice", "gradient")), "puw": PUW(),
    "imtl": IMTL(), "nash": NashMTL(), "nash kept": NashMTL(update_every=3),
    "nash heads": NashMTL(heads=True), "nash heads kept": NashMTL(heads=True, update_every=3, max_norm=0),
    "gradnorm": GradNorm(), "gradnorm encoder": GradNorm(place="encoder"),
    "gcs": GCS(primary="depth"), "gcs weighted": GCS(primary="depth", variant="weighted"),
    "ol-aux": OLAUX(primary="depth", steps=2), "ol-aux product": OLAUX(primary="depth", steps=2, measure="product"),
    "auto-lambda": AutoLambda(), "auto-lambda encoder": AutoLambda(primary="depth", place="encoder"),
    **{f"aggregator {name}": torchjd("aggregator", name) for name in catalogue.aggregators() if name != "Krum"},
    **{f"scalarizer {name}": torchjd("scalarizer", name) for name in catalogue.scalarizers()},
    "aggregator MGDA by steps": TorchJD(aggregator="MGDA", solver="frank-wolfe"),
    "aggregator FairGrad with heads": TorchJD(aggregator="FairGrad", settings={"alpha": 1.0}, heads=True),
    "aggregator GradDrop by batch": TorchJD(aggregator="GradDrop", graddrop="batch"),
    "scalarizer STCH by nadir": TorchJD(scalarizer="STCH", settings={"mu": 1.0}, warmup_epochs=0),
}  # fmt: skip
SHAPERS = ("ial uncertainty", "imtl", "nash", "gradnorm encoder", "gcs", "ol-aux", "aggregator UPGrad")
CASES = [*((name, "features") for name in METHODS), *((name, "parameters") for name in SHAPERS)]
every = pytest.mark.parametrize(("method", "level"), CASES)
FINITE: dict[str, tuple[tuple[str, ...], float, float]] = {
    "all present": (TASKS, 1, 0),
    "one absent": (("depth", "normals"), 1, 0),
    "primary absent": (("segmentation", "normals"), 1, 0),
    "primary absent and reached": (("segmentation", "normals"), 1, 1e-2),
    "primary alone": (("depth",), 1, 0),
    "another alone": (("normals",), 1, 0),
    "gradient of zero": (TASKS, 0, 0),
    "scale 1e10": (TASKS, 1e10, 0),
    "scale 1e-10": (TASKS, 1e-10, 0),
    "none present": ((), 1, 0),
    "none present, one reached": ((), 1, 1e-2),
}
"""Name → tasks with labels; what the gradient at depth's prediction is multiplied by, and what is added."""


@attrs.define
class Meddler:
    """Changes the gradient that arrives at a head's prediction."""

    factor: float = 1.0
    more: float = 0.0

    def __call__(self, head: nn.Module, inputs: tuple[Tensor, ...], prediction: Tensor) -> None:
        factor = self.factor
        more = self.more
        if prediction.requires_grad:
            prediction.register_hook(lambda gradient: gradient * factor + more)


def trainer(method: object, folder: Path, level: str = "features", optimizer: str = "sgd") -> Trainer:
    plugins = [ToyData(size=(16, 16)), Full(), ToyNetwork(channels=4), method]
    settings = {"batch_size": 4, "validation": 0.0, "device": "cpu", "learning_rate": 1e-2}
    experiment = Experiment(name="bank", plugins=plugins, level=level, optimizer=optimizer, **settings)  # type: ignore[arg-type]
    return Trainer(prepare(experiment, RunFolder(folder)), make_fabric(experiment), RunFolder(folder))


def with_labels(batch: Batch, present: tuple[str, ...]) -> Batch:
    return batch._replace(labelled=torch.tensor([name in present for name in TASKS]).expand_as(batch.labelled))


def train(t: Trainer, batch: Batch, task: str = "depth", factor: float = 1.0, more: float = 0.0) -> float:
    """One batch with a task's gradient changed; how many steps were skipped."""
    meddler = t.step.network.heads[task].register_forward_hook(Meddler(factor, more))
    t.train_batch(batch)
    meddler.remove()
    return t.averages.take()["skipped_steps"]


def state(t: Trainer) -> dict[str, Tensor]:
    """Of the network, the plugins and the optimizer."""
    moments = {f"{n}/{k}": v for n, own in enumerate(t.raw_optimizer.state.values()) for k, v in own.items()}
    return {n: v.clone() for n, v in (t.step.state_dict() | moments).items() if v is not None}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {n for n, v in after.items() if not torch.equal(v.nan_to_num(-1), before[n].nan_to_num(-1))}


def spoilt(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """What was finite and is no longer."""
    return {n for n, v in after.items() if (before[n].isfinite() & ~v.isfinite()).any()}


def with_a_gradient(present: tuple[str, ...], factor: float, more: float) -> set[str]:
    """Heads that move, of which float32 shows no step of 1e-10."""
    return {n for n in TASKS if (n == "depth" and more) or (n in present and (n != "depth" or factor > 1e-9))}


BY_SIZE = ("nash heads", "nash heads kept")
"""Methods whose weights make up for the size of a task's gradient in the head, too."""


@every
def test_what_is_finite_stays_finite_and_what_has_no_gradient_stays_as_it_is(
    method: str, level: str, tmp_path: Path
) -> None:
    """By plain SGD: with momentum a batch without a gradient would go on with the last one's."""
    t = trainer(METHODS[method], tmp_path, level)
    full: Batch = next(iter(t.data.training))
    for case, (present, factor, more) in FINITE.items():
        before = state(t)
        assert train(t, with_labels(full, present), factor=factor, more=more) == 0, case
        after = state(t)
        assert spoilt(before, after) == set(), case
        moved = {name for name in TASKS if any(f"heads.{name}." in n for n in changed(before, after))}
        known = 1.0 if method in BY_SIZE and factor else factor
        assert moved == with_a_gradient(present, known, more), case
        assert moved or not changed(before, after), case
        if factor > 1:  # a step of that size leaves no network to go on with
            t.step.load_state_dict(before)


@every
def test_a_gradient_that_is_not_finite_is_skipped_counted_and_forgotten(
    method: str, level: str, tmp_path: Path
) -> None:
    t = trainer(METHODS[method], tmp_path, level, optimizer="adam")
    full: Batch = next(iter(t.data.training))
    assert train(t, full) == 0
    for task, value in product(("segmentation", "depth"), (math.nan, math.inf, -math.inf)):
        before = state(t)
        assert train(t, full, task, more=value) == 1, (task, value)
        assert changed(before, state(t)) == set(), (task, value)
        assert train(t, full) == 0, (task, value)
        assert changed(before, state(t)), (task, value)


def test_krum_which_needs_three_tasks_stops_where_a_batch_has_fewer(tmp_path: Path) -> None:
    t = trainer(torchjd("aggregator", "Krum"), tmp_path)
    full: Batch = next(iter(t.data.training))
    assert train(t, full) == 0
    with pytest.raises(MtlError, match=r"Krum of torchjd, with 2 task\(s\) in a batch"):
        train(t, with_labels(full, ("depth", "normals")))
