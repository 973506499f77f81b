"""float16: gradients that are taken in the forward pass follow the loss scale down when they overflow."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mtl_core import Step
from mtl_core.testing import StubBackbone, make_batch, make_step, make_tasks
from mtl_jtr import JTR
from mtl_jtr.early_gradients import EarlyScale, gradients_now, with_gradients

TASKS = make_tasks()
ONE_LABEL = torch.eye(3, dtype=torch.bool)[torch.tensor([0, 1, 2, 0])]
FIRST = 65536.0
"""The loss scale that torch begins with."""


def jtr(**options: object) -> JTR:
    torch.manual_seed(0)
    made = JTR(**options)  # type: ignore[arg-type]
    made.setup("jtr", TASKS, StubBackbone(4), nn.ModuleDict())
    return made


def step_of(number: int = 0, views: int = 1) -> Step:
    return make_step(TASKS, make_batch(TASKS, ONE_LABEL, size=(32, 32)), views=views, seed=number)


def gradients(made: JTR, step: Step, loss_scale: float, dtype: torch.dtype = torch.float16) -> list[Tensor]:
    with torch.autocast("cpu", dtype):
        total = torch.stack(list(made.compute_regularizer(step).values())).sum()
    wanted = [*step.predictions.values(), *made.g.parameters()]
    return [g / loss_scale for g in torch.autograd.grad(total * loss_scale, wanted)]


def finite(found: list[Tensor]) -> bool:
    return all(bool(g.isfinite().all()) for g in found)


def skipped(made: JTR, steps: int) -> list[float]:
    """The loss scale of every step that was skipped, by the rule of torch's GradScaler: half as large after each."""
    scale = FIRST
    found = []
    for number in range(steps):
        if not finite(gradients(made, step_of(number), scale)):
            found.append(scale)
            scale /= 2
    return found


def test_an_overflow_lowers_the_scale_until_steps_are_taken() -> None:
    """With a distance of weight 400 the early gradients overflow at 2¹³: a fixed scale would skip every step."""
    found = skipped(jtr(c_dist=400.0), steps=14)
    assert found[0] == FIRST, "nothing overflowed: the test shows nothing"
    assert len(found) <= 11


def test_the_defaults_begin_as_before() -> None:
    made = jtr()
    with torch.autocast("cpu", torch.float16):
        assert made.scale.factor(torch.device("cpu")) == 2**13
    assert made.scale.factor(torch.device("cpu")) == 1.0
    with torch.autocast("cpu", torch.bfloat16):
        assert made.scale.factor(torch.device("cpu")) == 1.0


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("c_recon", [0.0, 500.0])
def test_the_scale_is_the_losss_whatever_the_coefficients(variant: str, c_recon: float) -> None:
    made = jtr(variant=variant, c_recon=c_recon)
    step = step_of(views=1 if variant == "paper" else 3)
    gradients(made, step, 128.0)
    assert made.scale.loss_scale == 128
    again = gradients(made, step_of(views=1 if variant == "paper" else 3), 128.0)
    assert finite(again) or c_recon > 2  # of 500 times the loss the encoder's own backward pass overflows


def at_scale(loss_scale: float) -> list[Tensor]:
    made = jtr()
    made.scale.note(torch.tensor(loss_scale))
    return gradients(made, step_of(), loss_scale)


def test_gradients_do_not_depend_on_the_scale() -> None:
    """At the predictions; of biases before batch norm only rounding is left."""
    for one, other in zip(at_scale(8192.0)[:3], at_scale(1000.0)[:3], strict=True):
        assert (one - other).norm() < 0.05 * other.norm()


class Overflowing(nn.Module):
    """x · 2⁸ in float16, whose gradient overflows where it arrives larger than 2⁸."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.half() * 256.0).float()


def early(scale: EarlyScale, function: Callable[[Tensor], Tensor], x: Tensor, weight: float) -> Tensor:
    leaf = x.detach().requires_grad_()
    return with_gradients(
        torch.zeros(()), [x], gradients_now(weight * function(leaf).sum(), [leaf], scale), scale, True
    )


def test_by_hand() -> None:
    scale = EarlyScale()
    x = torch.ones(2, requires_grad=True)
    expected = []
    for loss_scale in (FIRST, FIRST / 2, FIRST / 64, FIRST / 64):
        with torch.autocast("cpu", torch.float16):
            total = early(scale, Overflowing(), x, weight=1.0)
        (gradient,) = torch.autograd.grad(total * loss_scale, x)
        expected.append((gradient / loss_scale).tolist())
    # 2¹³ · 2⁸ and 2¹³ · 2⁸ overflow; the scale of a step is known in the one after it
    assert expected[:2] == [[torch.inf] * 2] * 2
    assert expected[3] == [256.0, 256.0]


def test_accumulated_gradients_come_with_a_part_of_the_loss_scale() -> None:
    scale = EarlyScale()
    x = torch.ones(2, requires_grad=True)
    for _ in range(2):
        with torch.autocast("cpu", torch.float16):
            total = early(scale, lambda leaf: (leaf.half() * 3.0).float(), x, weight=1.0)
        (gradient,) = torch.autograd.grad(total * (FIRST / 3), x)
        torch.testing.assert_close(gradient / (FIRST / 3), torch.full((2,), 3.0), rtol=1e-3, atol=0)


def test_the_scale_is_saved_and_no_buffer() -> None:
    """Core puts buffers back where a step is skipped, which is when the scale has to fall."""
    made = jtr()
    made.scale.note(torch.tensor(32.0))
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    other = jtr()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.scale.loss_scale == 32
    assert not list(made.scale.buffers())
