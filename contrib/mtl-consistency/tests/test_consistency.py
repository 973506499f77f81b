"""Eq. 2 written out, and the contract."""

import pytest
import torch
from torch.nn import functional as F

from mtl_consistency import Consistency
from mtl_core.testing import RegularizerContract, make_batch, make_step, make_tasks

TASKS = make_tasks("segmentation", "depth", "normals")
LABELLED = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)


class TestConsistency(RegularizerContract):
    @pytest.fixture
    def plugin(self) -> Consistency:
        return Consistency(weight=2.0)


class TestBesideATaskPerImage(RegularizerContract):
    task_names = ("segmentation", "scene")

    @pytest.fixture
    def plugin(self) -> Consistency:
        return Consistency()


def test_the_term_equals_the_equation_sample_by_sample() -> None:
    step = make_step(TASKS, make_batch(TASKS, LABELLED), views=2)
    total = 0.0
    for b in range(4):
        unlabelled = [k for k in range(3) if not LABELLED[b, k]]
        for k in unlabelled:
            one, two = step.predictions[TASKS[k].name][:, b].detach()
            if k == 0:
                one = one.softmax(0)
                two = two.softmax(0)
            if k == 2:
                one = F.normalize(one, dim=0)
                two = F.normalize(two, dim=0)
            total += float(((one - two) ** 2).mean()) / len(unlabelled)
    found = Consistency(weight=3.0).compute_regularizer(step)["difference"].detach()
    assert float(found) == pytest.approx(3 * total / 4, rel=1e-5)


def test_labelled_tasks_and_equal_views_feel_nothing() -> None:
    step = make_step(TASKS, make_batch(TASKS, LABELLED), views=2)
    Consistency().compute_regularizer(step)["difference"].backward()
    gradients = {name: p.grad for name, p in step.predictions.items()}
    for k, task in enumerate(TASKS):
        reached = gradients[task.name].flatten(2).abs().amax((0, 2)) > 0
        assert reached.tolist() == (~LABELLED[:, k]).tolist()
    with torch.no_grad():
        for p in step.predictions.values():
            p[1] = p[0]
    assert Consistency().compute_regularizer(step)["difference"] == 0
