"""The contract of gradient shapers passes what is sound and rejects what is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.errors import ContractError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.seeds import generator_for
from mtl_core.step.encoder_gradients import EncoderGradients, Shaped
from mtl_core.testing import GradientShaperContract, bank, failures
from mtl_core.testing.gradients import entering


def balanced(g: EncoderGradients) -> Tensor:
    """1/‖b_t‖ for the branches that something reached."""
    return torch.where(g.reached, 1 / g.norms, torch.zeros_like(g.norms))


@plugin
class Balanced(nn.Module):
    """Brings every branch to one length, and counts."""

    @hookimpl
    def setup(self) -> None:
        self.count = nn.Buffer(torch.zeros(()))

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        return Shaped(balanced(gradients), {"count": self.count + 1})


@plugin
class Signs:
    """Keeps entries whose signs agree: an element-wise method."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> tuple[Tensor, ...]:
        return Shaped(tuple(self.level(parts) for parts in zip(*gradients.branches, strict=True)))

    def level(self, parts: tuple[Tensor | None, ...]) -> Tensor:
        b = torch.stack([part for part in parts if part is not None])
        agree = (b.sum(0).sign() * b.sign() >= 0) | b.isnan()
        return (b * torch.where(agree, 1.0, 0.0)).sum(0)


@plugin
class OneTooMany:
    """A weight too many."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return torch.ones(len(gradients.tasks) + 1)


@plugin
class DividesByZero:
    """Forgets branches that nothing reached."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return 1 / gradients.norms


@plugin
class Overflows:
    """Squares the Gramian before it divides."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        squared = gradients.gramian.diagonal() ** 2
        return torch.where(gradients.reached, squared / squared.sum(), torch.zeros_like(squared))


@plugin
class Hides:
    """Turns what is NaN into zero."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        b = sum(w * branch[0] for w, branch in zip(balanced(gradients), gradients.branches, strict=True))
        return Shaped((torch.nan_to_num(b),))


@plugin
class StopsAll:
    """Like min-norm methods with a zero row: the least common norm is 0."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return gradients.norms.min().expand(len(gradients.tasks)) * balanced(gradients)


@plugin
class Reverses:
    """Climbs."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return -balanced(gradients)


@plugin
class Threshold:
    """Drops branches below an absolute length."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return balanced(gradients) / (1 + gradients.norms)


@plugin
class UsesBranches:
    """Measures this rank's branches in place of the global ones."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return 1 / torch.stack([branch[0].norm() for branch in gradients.branches]).clamp(min=1e-30)


@plugin
class DrawsPerRank:
    """Draws from the step's generator."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        generator = generator_for(0) if gradients.step is None else gradients.step.generator
        return balanced(gradients) * torch.rand((), generator=generator)


@plugin
class DrawsGlobally:
    """Draws from the global generator."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return balanced(gradients) * torch.rand(len(gradients.tasks))


@plugin
class Writes(nn.Module):
    """Counts at once."""

    @hookimpl
    def setup(self) -> None:
        self.count = nn.Buffer(torch.zeros(()))

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        self.count += 1
        return balanced(gradients)


@plugin
class Remembers:
    """Averages its weights, where no checkpoint sees it."""

    @hookimpl
    def setup(self) -> None:
        self.weights: Tensor | None = None

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        now = balanced(gradients)
        self.weights = now if self.weights is None else self.weights / 2 + now
        return self.weights


@plugin
class Misnames(Balanced):
    """Proposes state that it does not have."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        return Shaped(balanced(gradients), {"counter": self.count + 1})


@plugin
class Reshapes(Balanced):
    """Proposes state of another shape."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        return Shaped(balanced(gradients), {"count": self.count.expand(3)})


@plugin
class Learns(nn.Module):
    """Has a parameter that no gradient reaches."""

    @hookimpl
    def setup(self) -> None:
        self.strength = nn.Parameter(torch.ones(()))

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return balanced(gradients) * self.strength


@plugin
class Spoils:
    """Normalises the branches where they are."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        for (level,), weight in zip(gradients.branches, balanced(gradients), strict=True):
            level.mul_(weight)
        return torch.ones_like(gradients.norms)


@plugin
class Synchronous:
    """Asks the device for a number."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return balanced(gradients) if gradients.norms.sum().item() > 0 else gradients.norms


@plugin
class OnTheHost:
    """Answers with weights on the host."""

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return torch.ones(len(gradients.tasks))


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (OneTooMany(), "test_answers_with_weights_or_a_gradient_like_z", r"\(4,\)"),
        (DividesByZero(), "test_is_finite_for_finite_gradients", "first row zero|last row zero"),
        (Overflows(), "test_is_finite_for_finite_gradients", "huge, torch.float32|tiny, torch.float32"),
        (Hides(), "test_nan_stays_nan", "disappeared"),
        (StopsAll(), "test_a_branch_that_nothing_reached_stops_nobody", "nothing enters"),
        (Reverses(), "test_a_branch_alone_keeps_its_direction", "segmentation alone"),
        (Threshold(), "test_scale_invariance", "another scale"),
        (UsesBranches(), "test_the_gramian_is_enough", ""),
        (DrawsPerRank(), "test_is_the_same_on_every_rank", "differently"),
        (DrawsGlobally(), "test_is_the_same_on_every_rank", "differently"),
        (Writes(), "test_state_is_proposed_and_not_written", "count was changed in place"),
        (Remembers(), "test_state_is_proposed_and_not_written", "remembered"),
        (Misnames(), "test_state_is_proposed_and_not_written", r"'counter' \(no buffer"),
        (Reshapes(), "test_state_is_proposed_and_not_written", "'count'"),
        (Learns(), "test_state_is_made_of_buffers", "strength"),
        (Spoils(), "test_leaves_the_gradients_as_they_were", r"branches\[0\] was changed"),
        (Synchronous(), "test_runs_on_the_meta_device", "meta"),
        (OnTheHost(), "test_runs_on_the_meta_device", "cpu"),
    ],
)
def test_a_faulty_shaper_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises((AssertionError, RuntimeError, ContractError), match=message or None):
        getattr(GradientShaperContract(), check)(broken)


def test_a_sound_shaper_passes_every_check() -> None:
    assert failures(GradientShaperContract, Balanced()) == {}


def test_an_element_wise_shaper_passes_every_check() -> None:
    class Elementwise(GradientShaperContract):
        elementwise = True

    assert failures(Elementwise, Signs()) == {}


def test_the_bank_holds_what_its_names_promise() -> None:
    gradients = bank()
    assert (gradients["conflicting"].gramian[0, 1:] < 0).all()
    assert torch.linalg.matrix_rank(gradients["rank deficient"].gramian) == 1
    assert gradients["last row zero"].reached.tolist() == [True, True, False]
    assert gradients["first row alone"].active.tolist() == [True, False, False]
    assert not gradients["all zero"].reached.any()
    assert gradients["labelled and not reached"].active[0] > gradients["labelled and not reached"].reached[0]
    assert gradients["reached and not labelled"].reached.all() > gradients["reached and not labelled"].active.any()
    ratio = gradients["huge"].norms / gradients["tiny"].norms
    assert torch.allclose(ratio, torch.full_like(ratio, 1e20))
    assert torch.allclose(gradients["orthogonal"].gramian, torch.eye(3, dtype=torch.float64), atol=1e-12)


def test_what_enters_is_the_weighted_sum() -> None:
    gradients = bank()["random"]
    b = torch.stack([branch[0].flatten() for branch in gradients.branches])
    weights = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    assert torch.allclose(entering(gradients, weights), b[0] + b[1] / 2 + b[2] * 2, atol=1e-12)
    assert torch.allclose(gradients.gramian, b @ b.T, atol=1e-12)
