"""Every method that remembers something: a skipped step leaves no trace, a resumed run ends as it would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtl_auxiliary import GCS, OLAUX, AutoLambda
from mtl_core.testing import ResumeContract
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


class TestEveryMethod(ResumeContract):
    @pytest.fixture(params=METHODS)
    def plugin(self, request: pytest.FixtureRequest) -> object:
        return METHODS[request.param]()


def test_what_is_remembered_changes_the_outcome(tmp_path: Path) -> None:
    """The contract can fail: weights that are forgotten on the way change the outcome."""
    contract = TestEveryMethod()
    first = contract.trainer(GradNorm(place="losses"), tmp_path)

    def forget(epoch: int, batch: int, batches: int) -> None:
        if (epoch, batch) == contract.stop:
            first.session.hooks.plugins["plugin"].weights.fill_(1)

    first.fit(forget)
    whole = contract.whole_run(GradNorm(place="losses"))
    assert not all(torch.equal(value, whole[name]) for name, value in first.step.state_dict().items())
