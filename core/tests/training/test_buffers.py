"""Buffers before a step and after it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtl_core.training.buffers import BufferGuard


class Many(nn.Module):
    """Buffers of several types and shapes, one of them not contiguous, one without entries."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.arange(6.0).view(2, 3).T)
        self.register_buffer("scalar", torch.tensor(2.5))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("seen", torch.tensor([True, False]))
        self.register_buffer("wide", torch.full((2, 2), 1.5, dtype=torch.float64))
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("learned", torch.ones(2, requires_grad=True))
        self.norm = nn.BatchNorm2d(4)


def changed(value: Tensor) -> Tensor:
    return ~value if value.dtype == torch.bool else value * 0 + (float("nan") if value.is_floating_point() else 9)


@pytest.mark.parametrize("skipped", [True, False])
def test_buffers_are_put_back_where_the_step_was_skipped(skipped: bool) -> None:
    module = Many()
    guard = BufferGuard(list(module.buffers()))
    module.scalar.fill_(7.0)  # what counts is how they are when they are saved
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    guard.save()
    with torch.no_grad():
        for buffer in module.buffers():
            buffer.copy_(changed(buffer))
    guard.restore(torch.tensor(skipped))
    for name, buffer in module.named_buffers():
        expected = before[name] if skipped else changed(before[name])
        assert buffer.dtype == expected.dtype
        torch.testing.assert_close(buffer.detach(), expected.detach(), rtol=0, atol=0, equal_nan=True, msg=name)


def test_a_module_without_buffers_needs_nothing() -> None:
    guard = BufferGuard([])
    guard.save()
    guard.restore(torch.tensor(True))


def test_few_operations_whatever_the_number_of_buffers() -> None:
    """Of all types together: one copy to save, three to restore."""
    counts = []
    for layers in (2, 40):
        module = nn.Sequential(*(nn.BatchNorm2d(4) for _ in range(layers)))
        guard = BufferGuard(list(module.buffers()))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            guard.save()
            guard.restore(torch.tensor(False))
        kinds = ("aten::where", "aten::cat", "aten::_foreach_copy_")
        counts.append([event.count for event in profile.key_averages() if event.key in kinds])
    assert counts[0] == counts[1]
    assert sum(counts[0]) == 4
