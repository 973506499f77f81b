"""Every method that remembers something: a skipped step leaves no trace, a resumed run ends as it would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtl_auxiliary import GCS, OLAUX, AutoLambda
from mtl_core import Experiment, RunFolder, make_fabric
from mtl_core.testing import ToyData, ToyLabels, ToyNetwork, Trainer, prepare
from mtl_ial import IAL
from mtl_torchjd import TorchJD
from mtl_weighting.gradnorm import GradNorm
from mtl_weighting.imtl import IMTL
from mtl_weighting.nash import NashMTL
from mtl_weighting.puw import PUW

METHODS: dict[str, Callable[[], object]] = {
    **{f"ial {m}": lambda m=m: IAL(primary="depth", measure=m) for m in ("uncertainty", "speed", "norm", "cosine")},
    **{f"gradnorm {place}": lambda place=place: GradNorm(place=place) for place in ("losses", "encoder")},
    **{f"torchjd {a}": lambda a=a: TorchJD(aggregator=a) for a in ("PCGrad", "GradVac", "PCD", "GradDrop")},
    **{f"torchjd {s}": lambda s=s: TorchJD(scalarizer=s) for s in ("UW", "IMTLL", "DWA", "FAMO", "Random")},
    "torchjd CRMOGM": lambda: TorchJD(aggregator="CRMOGM", settings={"weighting": "MGDA"}),
    "imtl": IMTL,
    "nash": NashMTL,
    "nash kept": lambda: NashMTL(update_every=3),
    "nash heads": lambda: NashMTL(heads=True, update_every=3),
    "torchjd FairGrad heads": lambda: TorchJD(aggregator="FairGrad", settings={"alpha": 1.0}, heads=True),
    "torchjd GradDrop by batch": lambda: TorchJD(aggregator="GradDrop", graddrop="batch"),
    "torchjd STCH by nadir": lambda: TorchJD(scalarizer="STCH", settings={"mu": 1.0}, warmup_epochs=1),
    "puw": lambda: PUW(particles=2, warmup_epochs=1),
    "gcs": lambda: GCS(primary="depth"),
    "ol-aux": lambda: OLAUX(primary="depth", steps=2),
    "auto-lambda": AutoLambda,
    "auto-lambda encoder": lambda: AutoLambda(primary="depth", place="encoder"),
}  # fmt: skip
"""Those of losses alone are tested in mtl-weighting."""

every = pytest.mark.parametrize("name", METHODS)


def trainer(name: str, folder: Path) -> Trainer:
    plugins = [ToyData(samples=16), ToyLabels(), ToyNetwork(channels=4), METHODS[name]()]
    settings = {"epochs": 4, "batch_size": 3, "learning_rate": 1e-2, "validation": 0.25, "device": "cpu"}
    experiment = Experiment(name="methods", plugins=plugins, **settings)  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    return Trainer(prepare(experiment, RunFolder(folder)), make_fabric(experiment), RunFolder(folder))


def state(t: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in t.step.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n].nan_to_num(-1), b[n].nan_to_num(-1)) for n in a)


@every
def test_a_skipped_step_leaves_no_trace_and_the_next_one_works(name: str, tmp_path: Path) -> None:
    t, moved = trainer(name, tmp_path / "run"), []
    for number, batch in enumerate(t.data.training):
        before = state(t)
        t.train_batch(batch._replace(images=batch.images * float("nan")) if number == 2 else batch)
        moved.append(not equal(before, state(t)))
    assert moved == [True, True, False, True]


class Stop(Exception):
    """Ends a run in the middle of an epoch."""


@every
def test_a_run_resumed_within_an_epoch_ends_as_one_that_was_not_stopped(name: str, tmp_path: Path) -> None:
    whole, first = trainer(name, tmp_path / "whole"), trainer(name, tmp_path / "parts")
    whole.fit()

    def stop(epoch: int, batch: int, batches: int) -> None:
        if (epoch, batch) == (2, 2):
            first.save()
            raise Stop

    with pytest.raises(Stop):
        first.fit(stop)
    second = trainer(name, tmp_path / "parts")
    second.resume()
    assert (second.position.epoch, second.position.batch) == (2, 2)
    second.fit()
    assert equal(state(whole), state(second))


def test_what_is_remembered_changes_the_outcome(tmp_path: Path) -> None:
    """Else the test above could not fail: forgotten on the way, it does."""
    whole, first = trainer("gradnorm losses", tmp_path / "whole"), trainer("gradnorm losses", tmp_path / "parts")
    whole.fit()

    def forget(epoch: int, batch: int, batches: int) -> None:
        if (epoch, batch) == (2, 2):
            first.session.hooks.plugins["gradnorm"].weights.fill_(1)

    first.fit(forget)
    assert not equal(state(whole), state(first))
