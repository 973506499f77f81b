"""The ablations: what auxiliary tasks are weighted by, and the rule without the norms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mtl_core import MtlError
from mtl_core.testing import (
    GradientShaperContract,
    LossRuleContract,
    encoder_gradients,
    make_batch,
    make_step,
    make_tasks,
)
from mtl_ial import IAL
from mtl_ial.measures import Progress, cosines, expected_norm, speed

TASKS = make_tasks("segmentation", "depth", "normals")
AUXILIARY = torch.tensor([False, True, True])
ALL = torch.ones(3, dtype=torch.bool)


@pytest.fixture(params=["fixed", "speed", "norm", "cosine"])
def measure(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestShaper(GradientShaperContract):
    @pytest.fixture
    def plugin(self, measure: str) -> IAL:
        return IAL(primary="depth", measure=measure)


class TestShaperWithoutNorms(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> IAL:
        return IAL(primary="depth", match_norms=False)


class TestLossRule(LossRuleContract):
    @pytest.fixture
    def plugin(self, measure: str) -> IAL:
        return IAL(primary="depth", measure=measure)


def made(**options: object) -> IAL:
    ial = IAL(primary="segmentation", **options)  # type: ignore[arg-type]
    ial.setup(name="ial", tasks=TASKS, places={})
    return ial


def epochs(*means: list[list[float]], active: Tensor = ALL) -> Progress:
    """Progress after epochs of steps with these losses."""
    progress = Progress.empty(3)
    for epoch in means:
        for step in epoch:
            progress = progress.seen(torch.tensor(step), active)
        progress = progress.ended()
    return progress


def test_speed_by_hand() -> None:
    """Depth fell from 2 to 1 (r = 0.5), normals stayed (r = 1): softmax of 0.25 and 0.5, mean weight 0.1."""
    progress = epochs([[9.0, 2.5, 1.0], [9.0, 1.5, 1.0]], [[1.0, 1.0, 1.0]])
    a = math.exp(0.25)
    b = math.exp(0.5)
    found = speed(progress, AUXILIARY, 0.1)
    assert found[1:].tolist() == pytest.approx([0.2 * a / (a + b), 0.2 * b / (a + b)])
    assert float(found[1:].mean()) == pytest.approx(0.1)


@pytest.mark.parametrize("known", [0, 1])
def test_speed_needs_two_epochs(known: int) -> None:
    progress = epochs(*[[[1.0, 2.0, 3.0]]] * known)
    assert speed(progress, AUXILIARY, 0.1)[1:].tolist() == pytest.approx([0.1, 0.1])


def test_an_epoch_without_a_tasks_label_is_no_epoch_of_its() -> None:
    progress = epochs([[1.0, 4.0, 1.0]]).seen(torch.tensor([1.0, 7.0, 1.0]), torch.tensor([True, False, True])).ended()
    assert float(progress.previous[1]) == 4.0
    assert progress.before[1].isnan()
    later = progress.seen(torch.tensor([1.0, 2.0, 1.0]), ALL).ended()
    assert (float(later.before[1]), float(later.previous[1])) == (4.0, 2.0)


def test_expected_norm_by_hand() -> None:
    """Depth is at half its first loss, normals at all of it: rates 0.5 and 1, relative to their mean 2/3 and 4/3."""
    progress = epochs([[8.0, 2.0, 3.0], [1.0, 1.0, 3.0]])
    found = expected_norm(progress, AUXILIARY, 0.1)
    assert found[1:].tolist() == pytest.approx([0.1 * (2 / 3) ** 1.5, 0.1 * (4 / 3) ** 1.5])
    assert expected_norm(Progress.empty(3), AUXILIARY, 0.1).tolist() == pytest.approx([0.1] * 3)


def test_cosines_against_vectors() -> None:
    torch.manual_seed(0)
    b = torch.randn(3, 7, dtype=torch.float64)
    b[2] = -b[0] + 0.1 * b[2]
    coefficients = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)
    found = cosines(b @ b.T, coefficients)
    expected = [max(0.0, float(torch.cosine_similarity(b[0], x, dim=0))) for x in b]
    assert found.tolist() == pytest.approx(expected)
    assert found[2] == 0
    assert cosines(torch.zeros(3, 3), coefficients).tolist() == [0, 0, 0]


def test_given_weights_are_used_and_the_others_begin_with_a_tenth() -> None:
    ial = made(measure="fixed", weights={"normals": 0.4})
    b = torch.randn(3, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shaped = ial.shape_encoder_gradient(encoder_gradients(b, TASKS))
    lengths = (shaped.weights.abs() * b.norm(dim=1)).tolist()
    assert lengths[1:] == pytest.approx([0.1 * lengths[0], 0.4 * lengths[0]], rel=1e-5)


def test_without_the_norms_branches_keep_their_own_length() -> None:
    ial = made(match_norms=False)
    b = torch.randn(3, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = encoder_gradients(b, TASKS, decoder_weights=torch.tensor([2.0, 4.0, 0.5], dtype=torch.float64))
    assert ial.shape_encoder_gradient(gradients).weights.tolist() == pytest.approx([0.5, 0.1 / 4, 0.1 / 0.5], rel=1e-5)


def test_the_loss_rule_notes_progress_for_the_measures_that_need_it(measure: str) -> None:
    ial = made(measure=measure)
    step = make_step(TASKS, make_batch(TASKS))
    ial.combine_losses(step.task_losses, step.task_means, step.active, step)
    noted = bool(ial.first.any())
    assert noted == (measure in ("speed", "norm"))
    if noted:
        torch.testing.assert_close(ial.first, step.task_means.detach())


def test_a_weight_for_an_unknown_task_and_a_negative_one() -> None:
    with pytest.raises(MtlError, match=r"ial.weights: the data set has no task 'normal'; did you mean \"normals\"\?"):
        made(measure="fixed", weights={"normal": 0.1})
    with pytest.raises(ValueError, match="expected weights of 0 or more, found depth = -1"):
        IAL(primary="depth", weights={"depth": -1.0})
