"""Mean teacher against the equation, sample by sample, and the contracts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_consistency import MeanTeacher
from mtl_core import Experiment, RunFolder, Step, make_fabric
from mtl_core.testing import (
    RegularizerContract,
    ResumeContract,
    StubBackbone,
    ToyData,
    ToyLabels,
    ToyNetwork,
    Trainer,
    make_batch,
    make_step,
    make_tasks,
    prepare,
    stub_heads,
)

TASKS = make_tasks("segmentation", "depth", "normals")
LABELLED = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)


class TestMeanTeacher(RegularizerContract):
    @pytest.fixture(params=[{}, {"compare": "unlabelled", "loss": "task"}], ids=str)
    def plugin(self, request: pytest.FixtureRequest) -> MeanTeacher:
        return MeanTeacher(**request.param)


class TestBesideATaskPerImage(RegularizerContract):
    task_names = ("segmentation", "scene")

    @pytest.fixture
    def plugin(self) -> MeanTeacher:
        return MeanTeacher()


class TestResume(ResumeContract):
    @pytest.fixture
    def plugin(self) -> MeanTeacher:
        return MeanTeacher(decay=0.5, ramp=0.6)


def teacher(**options: Any) -> MeanTeacher:
    torch.manual_seed(0)
    backbone = StubBackbone(4)
    made = MeanTeacher(**options)
    made.setup(backbone, stub_heads(backbone, TASKS))
    return made


def two_views(progress: float = 1.0) -> Step:
    """A step whose views are different images."""
    step = make_step(TASKS, make_batch(TASKS, LABELLED), views=2)
    images = torch.rand(step.images.shape, generator=torch.Generator().manual_seed(3))
    return attrs.evolve(step, images=images, progress=progress)


def in_label_space(name: str, value: Tensor) -> Tensor:
    if name == "segmentation":
        return value.softmax(0)
    return F.normalize(value, dim=0) if name == "normals" else value


def plain(made: MeanTeacher, step: Step) -> Tensor:
    total = torch.zeros(())
    for b in range(4):
        compared = [k for k in range(3) if made.compare == "all" or not LABELLED[b, k]]
        for k in compared:
            name = TASKS[k].name
            one = step.predictions[name][0, b]
            with torch.no_grad():
                z = step.images[1, b].repeat(2, 1, 1)[:4]
                linear = made.teacher.heads[name].linear
                other = in_label_space(name, F.conv2d(z[None], linear.weight, linear.bias)[0])
            if made.loss == "square":
                distance = (in_label_space(name, one) - other).square().mean()
            elif name == "segmentation":
                distance = -(other * one.log_softmax(0)).sum(0).mean()
            elif name == "depth":
                distance = (one - other).abs().mean()
            else:
                distance = (1 - F.cosine_similarity(one, other, dim=0)).mean()
            total = total + distance / len(compared) / 4
    return total


@pytest.mark.parametrize("compare", ["all", "unlabelled"])
@pytest.mark.parametrize("loss", ["square", "task"])
def test_term_and_gradients_equal_the_equation_sample_by_sample(compare: str, loss: str) -> None:
    step = two_views()
    made = teacher(weight=3.0, compare=compare, loss=loss)
    found = made.compute_regularizer(step)["difference"]
    expected = 3 * plain(made, step)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    wanted = list(step.predictions.values())
    for one, other in zip(
        torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True
    ):  # fmt: skip
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
        assert one[0].abs().max() > 0
        assert one[1].abs().max() == 0


def test_the_teacher_learns_by_its_average_only() -> None:
    made = teacher()
    assert not list(made.parameters())
    with torch.no_grad():
        for weight in made.teacher._source[1].parameters():
            weight += 1
    before = made.teacher.heads["depth"].linear.weight.clone()
    made.teacher.count.fill_(1)
    made.before_step(None)  # type: ignore[arg-type]
    torch.testing.assert_close(made.teacher.heads["depth"].linear.weight, before + 0.5)


@pytest.mark.parametrize(("ramp", "factor"), [(0.25, math.exp(-5 * 0.36)), (0.0, 1.0)])
def test_the_coefficient_grows_over_a_share_of_the_training(ramp: float, factor: float) -> None:
    made = teacher(ramp=ramp)
    early, late = (made.compute_regularizer(two_views(p))["difference"] for p in (0.1, 0.9))
    torch.testing.assert_close(early, factor * late)


def test_in_a_run_the_teacher_follows_the_network(tmp_path: Path) -> None:
    plugins = [ToyData(samples=8), ToyLabels(), ToyNetwork(), MeanTeacher(decay=0.75)]
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 4, "validation": 0.0, "device": "cpu", "accumulate": 2}
    session = prepare(Experiment(name="t", plugins=plugins, **settings))
    trainer = Trainer(session, make_fabric(session.experiment), RunFolder(tmp_path))
    weights = [session.network.heads["depth"].weight.detach().clone()]
    trainer.fit(lambda *_: weights.append(session.network.heads["depth"].weight.detach().clone()))
    # two optimizer steps of two batches; the last one is taken in by the next step, which there is not
    expected = (weights[0] + weights[2]) / 2
    made = session.hooks.plugins["mean-teacher"].teacher
    torch.testing.assert_close(made.heads["depth"].weight, expected)
    assert made.count == 2
