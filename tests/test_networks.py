"""Every network trains with plugins that ask something of it: gradients at the seam or the parameters, a look ahead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtl_auxiliary import AutoLambda
from mtl_backbones import MTAN, SMP, VGG16, CrossStitch
from mtl_consistency import MeanTeacher
from mtl_core import Experiment, RunFolder, make_fabric
from mtl_core.testing import BlankedDataset, ToyData, Trainer, collate, prepare
from mtl_ial import IAL
from mtl_jtr import JTR
from mtl_labels import Full, OneLabel
from mtl_torchjd import TorchJD

NETWORKS: dict[str, Callable[[], object]] = {
    "mtan": lambda: MTAN(width=4),
    "cross-stitch": lambda: CrossStitch(width=4),
    "vgg16": lambda: VGG16(width=4, head_channels=8),
    "unet": lambda: SMP(encoder="resnet18", head="unet", head_channels=16),
}
METHODS: dict[str, tuple[Callable[[], list[object]], str]] = {
    "alone": (list, "features"),
    "ial": (lambda: [IAL(primary="depth")], "features"),
    "jtr": (lambda: [JTR()], "features"),
    "pcgrad at the parameters": (lambda: [TorchJD(aggregator="PCGrad")], "parameters"),
    "auto-lambda": (lambda: [AutoLambda(primary="depth")], "features"),
}


def trainer(folder: Path, network: object, labels: object, methods: list[object], level: str = "features") -> Trainer:
    experiment = Experiment(
        name="networks",
        plugins=[ToyData(), labels, network, *methods],
        batch_size=4,
        device="cpu",
        validation=0.0,
        level=level,  # type: ignore[arg-type]
    )
    return Trainer(prepare(experiment), make_fabric(experiment), RunFolder(folder))


def train(made: Trainer, steps: int = 2) -> None:
    data = BlankedDataset(made.session.dataset, made.session.labelled)
    batch = collate([data[index] for index in range(4)])
    for _ in range(steps):
        made.train_batch(batch)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_trains(network: str, method: str, tmp_path: Path) -> None:
    methods, level = METHODS[method]
    made = trainer(tmp_path, NETWORKS[network](), OneLabel(), methods(), level)
    before = {name: p.detach().clone() for name, p in made.session.network.named_parameters()}
    train(made)
    after = dict(made.session.network.named_parameters())
    assert all(p.isfinite().all() for p in after.values())
    assert any(not torch.equal(after[name], before[name]) for name in before if name.startswith("backbone."))
    assert any(not torch.equal(after[name], before[name]) for name in before if name.startswith("heads."))


def test_units_of_cross_stitch_learn_at_their_rate(tmp_path: Path) -> None:
    """Adam's first step moves every weight by its learning rate."""
    made = trainer(tmp_path, CrossStitch(width=4, rate=50.0), Full(), [])
    units = made.session.network.backbone.units[0].alpha
    other = made.session.network.heads["depth"].head[0].weight
    before = units.detach().clone(), other.detach().clone()
    train(made, steps=1)
    moved = [(now - then).abs().max().item() for now, then in zip((units, other), before, strict=True)]
    assert moved == [pytest.approx(50e-4, rel=0.01), pytest.approx(1e-4, rel=0.01)]


@pytest.mark.parametrize("network", ["mtan", "cross-stitch"])
def test_a_checkpoint_brings_all_of_it_back(network: str, tmp_path: Path) -> None:
    first = trainer(tmp_path, NETWORKS[network](), Full(), [IAL(primary="depth")])
    train(first)
    first.save()
    second = trainer(tmp_path, NETWORKS[network](), Full(), [IAL(primary="depth")])
    second.resume()
    train(first)
    train(second)
    one, two = (made.session.network.state_dict() for made in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("network", NETWORKS)
def test_an_average_of_it_predicts_as_it_does(network: str, tmp_path: Path) -> None:
    """A head that held parts of the encoder would be copied without them."""
    made = trainer(tmp_path, NETWORKS[network](), OneLabel(), [MeanTeacher(decay=0.0)])
    train(made)
    session = made.session
    session.network.eval()
    average = session.hooks.plugins["mean-teacher"].teacher
    average.update()
    average.load_state_dict(
        {**average.state_dict(), **{n: b for n, b in session.network.state_dict().items() if "running" in n}}
    )
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = session.network(images)
    for name, prediction in average(images).items():
        torch.testing.assert_close(prediction, expected[name])
