"""Fixed weights: the given ones, and messages for those that are not."""

import pytest
import torch

from mtl_core import ExperimentError, MtlError, parse_experiment
from mtl_core.testing import Hooks, LossRuleContract, StubBackbone, make_step, make_tasks
from mtl_weighting.fixed_weights import FixedWeights

ALL = {"segmentation": 1.0, "depth": 0.25, "normals": 3.0}


class TestWeights(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> FixedWeights:
        return FixedWeights(weights=ALL)


class TestPrimary(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> FixedWeights:
        return FixedWeights(primary="segmentation")


def prepared(**options: object) -> Hooks:
    hooks = Hooks({"mine": FixedWeights(**options)}, required=())
    hooks.setup(make_tasks(), (8, 8), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weights": ALL}, (1, 0.25, 3)),
        ({"primary": "depth"}, (0.1, 1, 0.1)),
        ({"primary": ("depth", "normals"), "auxiliary": 0.5}, (0.5, 1, 1)),
        ({"primary": "depth", "weights": {"normals": 0.4}}, (0.1, 1, 0.4)),
        ({"primary": "depth", "weights": {"depth": 2.0, "normals": 0.4}}, (0.1, 1, 0.4)),
        ({"primary": ("depth", "normals"), "weights": ALL}, (1, 1, 1)),
    ],
)
def test_the_total_is_the_weighted_sum(options: dict[str, object], expected: tuple[float, ...]) -> None:
    step = make_step(make_tasks())
    total = prepared(**options).combine_losses(step.task_losses, step.task_means, step.active, step)
    by_hand = sum(w * loss.item() for w, loss in zip(expected, step.task_losses, strict=True))
    assert total.item() == pytest.approx(by_hand, rel=1e-6)
    weights = torch.autograd.grad(total, step.task_losses)[0]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32))


def test_each_task_can_be_primary_in_turn_with_the_same_settings() -> None:
    """As `mtl train-each --primary` does: a weight given to a task is meant for the runs in which it is auxiliary."""
    given = {task: prepared(primary=task, weights={"depth": 0.3}).plugins["mine"] for task in ALL}
    chosen = {task: plugin.chosen.tolist() for task, plugin in given.items()}
    expected = {"segmentation": [1, 0.3, 0.1], "depth": [0.1, 1, 0.1], "normals": [0.1, 0.3, 1]}
    assert chosen == {task: pytest.approx(weights) for task, weights in expected.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": ALL | {"dept": 1.0}}, r"mine\.weights: the run has no task 'dept'; did you mean \"depth\"\?"),
        ({"weights": {"depth": 1.0}}, r"mine\.weights: no weight for segmentation, normals; name every task, or set"),
        ({"primary": "normal"}, r"mine\.primary: the run has no task 'normal'; did you mean \"normals\"\?"),
        ({}, "no weight for segmentation, depth, normals"),
    ],
)
def test_names_are_checked_against_the_runs_tasks(options: dict[str, object], message: str) -> None:
    with pytest.raises(MtlError, match=message):
        prepared(**options)


@pytest.mark.parametrize("wrong", [-0.1, float("inf")])
def test_a_weight_is_a_number_from_0_on(wrong: float) -> None:
    text = f'name = "t"\n[plugins.fixed-weights.weights]\ndepth = {wrong}\n'
    with pytest.raises(ExperimentError, match=f"fixed-weights.weights: expected a weight of at least 0, found {wrong}"):
        parse_experiment(text, "t.toml")
