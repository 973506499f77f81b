"""Perceptual maps written out pair by pair, sample by sample, and the contract."""

from __future__ import annotations

import pytest
import torch

from mtl_core.testing import RegularizerContract, StubBackbone, make_batch, make_step, make_tasks
from mtl_crosstask import PerceptualMap
from mtl_nn import Norm

TASKS = make_tasks("segmentation", "depth", "normals")
LABELLED = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
SIZE = (32, 32)


class TestPerceptualMap(RegularizerContract):
    image_size = SIZE

    @pytest.fixture
    def plugin(self) -> PerceptualMap:
        return PerceptualMap(weight=2.0, width=4)


def made(norm: Norm = "group", **options: float) -> PerceptualMap:
    torch.manual_seed(0)
    plugin = PerceptualMap(width=4, **options)  # type: ignore[arg-type]
    plugin.setup("perceptual-map", TASKS, StubBackbone(4, norm))
    return plugin


def test_the_terms_equal_the_sums_written_out() -> None:
    plugin = made(weight=3.0, map_weight=0.5)
    step = make_step(TASKS, make_batch(TASKS, LABELLED, size=SIZE))
    distance = torch.zeros(())
    learnt = torch.zeros(())
    for b in range(4):
        spaces = {}
        inputs = {}
        for k, task in enumerate(TASKS):
            spaces[k] = task.to_label_space(step.predictions[task.name][0, b : b + 1]).detach()
            one = {task.name: step.targets[task.name][b : b + 1]}
            label = task.encode(one[task.name])
            valid = task.valid(one[task.name])
            inputs[k] = torch.where(valid, label, spaces[k]) if LABELLED[b, k] else spaces[k]
        labels = [k for k in range(3) if LABELLED[b, k]]
        for t in labels:
            for s in range(3):
                if s != t:
                    m = plugin.m[TASKS[t], TASKS[s]]
                    share = len(labels) * 2
                    output = m(inputs[t])
                    apart = TASKS[s].to_label_space(m(spaces[t])) - TASKS[s].to_label_space(output)
                    distance = distance + apart.square().mean() / share
                    learnt = learnt + TASKS[s].soft_loss(output, inputs[s]).mean() / share
    found = plugin.compute_regularizer(step)
    torch.testing.assert_close(found["distance"], 3 * distance / 4, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["maps"], 0.5 * learnt / 4, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_distance_trains_the_network_alone_and_the_other_term_the_maps_alone(norm: Norm) -> None:
    plugin = made(norm)
    step = make_step(TASKS, make_batch(TASKS, LABELLED, size=SIZE))
    terms = plugin.compute_regularizer(step)
    terms["distance"].backward(retain_graph=True)
    assert all(p.grad is None for p in plugin.parameters())
    for k, task in enumerate(TASKS):
        reached = step.predictions[task.name].grad.flatten(2).abs().amax((0, 2)) > 0
        assert reached.tolist() == LABELLED[:, k].tolist()
        step.predictions[task.name].grad = None
    terms["maps"].backward()
    assert all(p.grad is not None for p in plugin.parameters())
    assert all(p.grad is None for p in step.predictions.values())
