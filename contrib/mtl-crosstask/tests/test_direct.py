"""Direct maps written out pair by pair, sample by sample, and the contract."""

from __future__ import annotations

import pytest
import torch

from mtl_core.testing import RegularizerContract, StubBackbone, make_batch, make_step, make_tasks
from mtl_crosstask import DirectMap
from mtl_nn import Norm

TASKS = make_tasks("segmentation", "depth", "normals")
LABELLED = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
SIZE = (32, 32)


class TestDirectMap(RegularizerContract):
    image_size = SIZE

    @pytest.fixture
    def plugin(self) -> DirectMap:
        return DirectMap(weight=2.0, width=4)


def made(norm: Norm = "group", **options: float) -> DirectMap:
    torch.manual_seed(0)
    plugin = DirectMap(width=4, **options)  # type: ignore[arg-type]
    plugin.setup("direct-map", TASKS, StubBackbone(4, norm))
    return plugin


def test_the_term_equals_the_sum_written_out() -> None:
    plugin = made(weight=3.0)
    step = make_step(TASKS, make_batch(TASKS, LABELLED, size=SIZE))
    total = torch.zeros(())
    for b in range(4):
        known = [k for k in range(3) if LABELLED[b, k]]
        missing = [k for k in range(3) if not LABELLED[b, k]]
        for s in missing:
            for t in known:
                source = TASKS[s]
                target = TASKS[t]
                prediction = source.to_label_space(step.predictions[source.name][0, b : b + 1])
                output = plugin.m[source, target](prediction)
                total = total + target.loss(output, step.targets[target.name][b : b + 1])[0] / len(missing)
    found = plugin.compute_regularizer(step)["mapped"]
    torch.testing.assert_close(found, 3 * total / 4, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_it_trains_the_maps_and_the_heads_that_have_no_label(norm: Norm) -> None:
    plugin = made(norm)
    step = make_step(TASKS, make_batch(TASKS, LABELLED, size=SIZE))
    plugin.compute_regularizer(step)["mapped"].backward()
    assert all(p.grad is not None for p in plugin.parameters())
    for k, task in enumerate(TASKS):
        reached = step.predictions[task.name].grad.flatten(2).abs().amax((0, 2)) > 0
        # the last sample has no label to be mapped to
        assert reached.tolist() == [not has and b < 3 for b, has in enumerate(LABELLED[:, k].tolist())]


def test_full_labels_leave_nothing_to_map() -> None:
    plugin = made()
    step = make_step(TASKS, make_batch(TASKS, torch.ones(4, 3, dtype=torch.bool), size=SIZE))
    term = plugin.compute_regularizer(step)["mapped"]
    term.backward()
    assert term == 0
    assert all(p.grad is None or not p.grad.any() for p in step.predictions.values())
