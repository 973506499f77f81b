"""OL-AUX: its weights against the published update, written out here step by step."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_auxiliary import OLAUX
from mtl_core import MtlError
from mtl_core.testing import (
    GradientShaperContract,
    Hooks,
    StubBackbone,
    encoder_gradients,
    make_step,
    make_tasks,
    random_rows,
)


class TestCosine(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> OLAUX:
        return OLAUX(primary="segmentation")


class TestProductWithTwoPrimaries(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> OLAUX:
        return OLAUX(primary=("segmentation", "normals"), measure="product", steps=1, initial_weight=1.0)


class Rate:
    """A look ahead that knows the learning rate and nothing else."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate


def prepared(**options: object) -> Hooks:
    hooks = Hooks({"ol-aux": OLAUX(**{"primary": "segmentation"} | options)}, required=())
    hooks.setup(make_tasks(), (8, 8), StubBackbone(width=4), lambda name: None)
    hooks.plugins["ol-aux"].double()
    return hooks


def take(hooks: Hooks, rows: Tensor, keep: bool = True) -> list[float]:
    """One step; the weights with which the branches entered."""
    shaped = hooks.shape_encoder_gradient(encoder_gradients(rows))
    weights = shaped.weights.tolist()
    buffers = dict(hooks.plugins["ol-aux"].named_buffers())
    for name, value in shaped.state.items() if keep else ():
        buffers[name].copy_(value)
    return weights


def steps(count: int) -> list[Tensor]:
    """Rows whose second agrees with the first and whose third does not, of different length in every step."""
    made = []
    for seed in range(count):
        b = random_rows(3, seed=seed)
        made.append(torch.stack((b[0], b[1] + b[0], b[2] - b[0])) * (1 + seed))
    return made


def test_every_five_steps_a_weight_moves_by_beta_times_the_mean_cosine() -> None:
    hooks = prepared(beta=0.05)
    weights = np.full(3, 0.1)
    seen = []
    weights[0] = 1
    for number, rows in enumerate(steps(17)):
        np.testing.assert_allclose(take(hooks, rows), weights, rtol=1e-6)
        b = rows.numpy()
        seen.append([b[k] @ b[0] / np.linalg.norm(b[k]) / np.linalg.norm(b[0]) for k in (1, 2)])
        if number % 5 == 4:
            weights[1:] = np.maximum(0, weights[1:] + 0.05 * np.mean(seen, 0))
            seen = []
    assert weights[1] > 0.15, "the task that agrees should have gained"
    assert weights[2] < 0.05, "the task that does not should have lost"


def test_as_published_it_is_the_learning_rate_times_the_inner_product() -> None:
    hooks = prepared(measure="product", beta=0.1, steps=2)
    rates = (0.5, 0.25)
    rows = steps(2)
    for rate, b in zip(rates, rows, strict=True):
        hooks.before_step(Rate(rate))
        take(hooks, b)
    expected = 0.1 + 0.1 * np.mean([rate * float(b[1] @ b[0]) for rate, b in zip(rates, rows, strict=True)])
    assert take(hooks, rows[0])[1] == pytest.approx(expected, rel=1e-6)


def test_a_cosine_needs_no_learning_rate() -> None:
    assert not prepared().has("before_step")
    assert prepared(measure="product").has("before_step")


def test_only_steps_that_both_tasks_reached_are_counted() -> None:
    hooks = prepared(beta=1.0, steps=2)
    rows = steps(4)
    without_primary = rows[1].clone()
    without_auxiliary = rows[2].clone()
    without_primary[0], without_auxiliary[1] = 0, 0
    sequence = [rows[0], without_primary, without_auxiliary, rows[3]]
    for b in sequence:
        assert take(hooks, b)[1] == pytest.approx(0.1), "moved before two steps were seen"
    cosines = [float(b[1] @ b[0] / b[1].norm() / b[0].norm()) for b in (rows[0], rows[3])]
    assert take(hooks, rows[0])[1] == pytest.approx(0.1 + np.mean(cosines), rel=1e-6)
    plugin = hooks.plugins["ol-aux"]
    assert plugin.counts.tolist() == [0, 1, 0], "the third task saw its fourth step one step later"


def test_a_step_that_is_not_taken_is_not_counted() -> None:
    hooks = prepared(steps=2)
    rows = steps(3)
    take(hooks, rows[0], keep=False)
    take(hooks, rows[1])
    assert hooks.plugins["ol-aux"].counts.tolist() == [0, 1, 1]


def test_without_a_primary_branch_auxiliaries_keep_their_weight() -> None:
    rows = steps(1)[0]
    rows[0] = 0
    assert take(prepared(initial_weight=0.3), rows)[1:] == pytest.approx([0.3, 0.3])


def test_a_weight_that_fell_to_zero_comes_back() -> None:
    hooks = prepared(beta=1.0, steps=1)
    rows = steps(1)[0]
    take(hooks, rows)
    assert take(hooks, rows * torch.tensor([[1.0], [1.0], [-1.0]]))[2] == 0
    assert take(hooks, rows)[2] > 0


def test_resumes_where_it_was() -> None:
    rows = steps(9)
    whole = prepared(steps=3)
    before = prepared(steps=3)
    expected = [take(whole, b) for b in rows]
    first = [take(before, b) for b in rows[:4]]
    after = prepared(steps=3)
    after.plugins["ol-aux"].load_state_dict(before.plugins["ol-aux"].state_dict())
    assert first + [take(after, b) for b in rows[4:]] == expected


def test_weights_of_auxiliaries_are_logged() -> None:
    hooks = prepared()
    step = make_step(make_tasks())
    hooks.shape_encoder_gradient(encoder_gradients(steps(1)[0], step=step))
    assert {name: value.item() for name, value in step.logged.items()} == pytest.approx(
        {"ol-aux/weight/depth": 0.1, "ol-aux/weight/normals": 0.1}
    )


def test_an_unknown_primary_names_the_nearest_task() -> None:
    with pytest.raises(MtlError, match=r"ol-aux\.primary: .*'normal'; did you mean \"normals\"\?"):
        prepared(primary="normal")


@pytest.mark.parametrize(
    "options", [{"primary": ()}, {"beta": 0.0}, {"steps": 0}, {"initial_weight": -0.1}, {"measure": "angle"}]
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        OLAUX(**{"primary": "depth"} | options)
