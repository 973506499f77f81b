"""Every regularizer that learns, draws or asks for views: a resumed run ends as it would have, batch norm included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mtl_backbones import SegNet
from mtl_consistency import Consistency, MeanTeacher
from mtl_core.testing import ResumeContract, ToyData, ToyLabels
from mtl_crosstask import DirectMap, PerceptualMap
from mtl_jtr import JTR
from mtl_jtr.masks import shown_maps
from mtl_mtpsl import MTPSL
from mtl_randaugment import RandAugment

REGULARIZERS: dict[str, Callable[[], object]] = {
    "jtr": JTR,
    "jtr with its other forms": lambda: JTR(
        network="smooth", target="fixed", masked=0.4, ramp=0.6, substitutes="ema", ema_decay=0.5, c_pseudo=0.1
    ),
    "jtr checkpoint": lambda: JTR(checkpoint=True),
    "jtr released": lambda: JTR(variant="released"),
    "mtpsl": MTPSL,
    "mtpsl released": lambda: MTPSL(variant="released"),
    "direct-map": DirectMap,
    "perceptual-map": PerceptualMap,
    "consistency": Consistency,
    "mean-teacher": lambda: MeanTeacher(decay=0.5, ramp=0.6),
}


class TestEveryRegularizer(ResumeContract):
    beside = {
        "data": ToyData(samples=8),
        "labels": ToyLabels(),
        "segnet": SegNet(width=2),
        "randaugment": RandAugment(),
    }
    settings = {"epochs": 2, "batch_size": 4, "validation": 0.0}
    stop = (1, 1)

    @pytest.fixture(params=REGULARIZERS)
    def plugin(self, request: pytest.FixtureRequest) -> object:
        return REGULARIZERS[request.param]()


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("jtr released", "mtl_jtr.entries.generator_beside"),
        ("mtpsl released", "mtl_mtpsl.maps.generator_beside"),
    ],
)
def test_noise_that_a_step_does_not_decide_changes_the_outcome(
    name: str, drawn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the contract could not fail for it."""
    going_on = torch.Generator().manual_seed(0)
    monkeypatch.setattr(drawn, lambda values, generator: going_on)
    contract = TestEveryRegularizer()
    whole = contract.whole_run(REGULARIZERS[name]())
    resumed = contract.resumed_run(REGULARIZERS[name]())
    assert not all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_what_is_hidden_from_g_belongs_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = torch.Generator().manual_seed(0)
    monkeypatch.setattr(
        "mtl_jtr.paper.shown_maps",
        lambda samples, tasks, masked, generator: shown_maps(samples, tasks, masked, going_on),
    )
    contract = TestEveryRegularizer()
    whole = contract.whole_run(JTR(masked=0.4, network="averages"))
    resumed = contract.resumed_run(JTR(masked=0.4, network="averages"))
    assert not all(torch.equal(value, resumed[name]) for name, value in whole.items())
