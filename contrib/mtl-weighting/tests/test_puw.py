"""PUW: which weights are in use when, which metrics choose them, and that nothing else does."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mtl_core import MtlError
from mtl_core.testing import EpochMeans, Hooks, LossRuleContract, StubBackbone, make_batch, make_step, make_tasks, masks
from mtl_weighting.puw import PUW, _gain, _moments, _moved, _resampled, _spread, _weighed

TASKS = make_tasks()


class TestLossRule(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> PUW:
        return PUW()


def prepared(seed: int = 0, **options: object) -> PUW:
    hooks = Hooks({"puw": PUW(**options)}, required=())
    hooks.setup(TASKS, (8, 8), StubBackbone(width=4), lambda name: torch.manual_seed(seed))
    return hooks.plugins["puw"]


def metrics(performance: float, spread: float = 0.5) -> dict[str, float]:
    """An epoch in which every task's headline metric is ``performance`` better than 1 and its losses vary so much."""
    found: dict[str, float] = {}
    for task in TASKS:
        found[f"val/{task.name}/{task.headline}"] = 1 + performance if task.higher_is_better else 1 - performance
        found[f"puw/count/{task.name}"] = 0.5
        found[f"puw/sum/{task.name}"] = 0.5 * 2
        found[f"puw/square/{task.name}"] = 0.5 * 4 * (1 + spread**2)
    return found


def run(puw: PUW, epochs: range, reward: Callable[[Tensor], float] = lambda weights: 0.0) -> list[Tensor]:
    """Weights in use in every epoch; each epoch's metrics are better than the last one's by ``reward(weights)``."""
    used = []
    level = 0.0
    for epoch in epochs:
        used.append(puw.weights.clone())
        level += reward(puw.weights)
        puw.after_epoch(epoch=epoch, metrics=metrics(level))
    return used


def test_weights_are_equal_during_the_warm_up() -> None:
    used = run(prepared(warmup_epochs=4, particles=3), range(5))
    assert [w.tolist() == [1, 1, 1] for w in used] == [True] * 4 + [False]


def test_every_particle_is_tried_for_an_epoch() -> None:
    puw = prepared(warmup_epochs=1, particles=3)
    run(puw, range(1))
    states = puw.states.clone()
    used = run(puw, range(1, 4))
    assert torch.equal(torch.stack(used), states)
    assert not torch.equal(puw.states, states)
    assert puw.trying == 0


def test_weights_are_positive_and_sum_to_the_number_of_tasks() -> None:
    for w in run(prepared(noise=2.0, particles=3), range(20)):
        assert (w > 0).all()
        assert w.sum().item() == pytest.approx(3, rel=1e-5)


def test_weights_go_where_validation_improves() -> None:
    """Metrics grow the faster the more weight the first task has."""
    puw = prepared(particles=5, noise=0.2, warmup_epochs=1)
    used = run(puw, range(60), reward=lambda w: 0.01 * float(w[0]))
    assert torch.stack(used[-10:])[:, 0].mean() > 1.8


def test_without_a_reward_weights_only_wander() -> None:
    """The counterpart of the test above: it is the reward that moves them."""
    used = run(prepared(particles=5, noise=0.2, warmup_epochs=1), range(60))
    assert torch.stack(used[-10:])[:, 0].mean() < 1.8


def test_a_gain_is_the_mean_relative_improvement_whichever_way_is_better() -> None:
    before = torch.tensor([[0.5, 1.0], [4.0, 2.0]])
    now = torch.tensor([[0.6, 0.8], [3.0, 2.2]])
    found = _gain(before, now, [True, False])
    assert found.tolist() == pytest.approx([(0.2 + 0.25) / 2, (0.2 - 0.1) / 2], rel=1e-5)


def test_a_task_without_a_value_is_left_out_of_the_gain() -> None:
    before = torch.tensor([[math.nan, 1.0], [1.0, math.nan]])
    now = torch.tensor([[5.0, 1.0], [1.5, 1.0]])
    assert _gain(before, now, [True, True]).tolist() == [0.5, 0]
    assert _gain(before * math.nan, now, [True, True]).isnan().all()


def test_what_was_0_has_no_relative_improvement() -> None:
    """As mIoU may be after the first epoch; of 1e8 nothing else would be seen."""
    before = torch.tensor([[0.0, 1.0], [0.5, 1.0]])
    now = torch.tensor([[0.1, 1.0], [0.6, 0.9]])
    assert _gain(before, now, [True, True]).tolist() == pytest.approx([0.2, 0.05])


def test_particles_are_weighed_by_performance_and_certainty() -> None:
    gains = torch.tensor([[0.1, 0.0], [0.3, 0.0], [0.1, 0.2], [0.3, 0.2]])
    equal = _weighed(gains, 1.0)
    performance = _weighed(gains, 0.0)
    assert equal.argmax() == 3
    assert equal.argmin() == 0
    assert equal[1].item() == pytest.approx(equal[2].item())
    assert performance[1].item() == pytest.approx(performance[3].item())
    assert (performance[1] / performance[0]).item() == pytest.approx(math.exp(2), rel=1e-5)
    assert _weighed(gains * 1e-6, 1.0).tolist() == pytest.approx(equal.tolist(), rel=1e-4)


def test_particles_that_brought_the_same_have_the_same_probability() -> None:
    assert _weighed(torch.full((4, 2), 0.3), 1.0).tolist() == [0.25] * 4


def test_a_gain_that_is_not_known_decides_nothing() -> None:
    """The particle is weighed as one of the mean certainty, and without any certainty performance decides alone."""
    gains = torch.tensor([[0.1, -0.1], [0.1, math.nan], [0.1, 0.3]])
    known = gains.clone()
    known[1, 1] = 0.1
    assert _weighed(gains, 0.0).tolist() == _weighed(known, 0.0).tolist()
    assert _weighed(gains, 1.0).tolist() == pytest.approx((gains[:, 1].nan_to_num(0.1) / 0.2 - 0.5).softmax(0).tolist())
    gains = torch.tensor([[0.1, math.nan], [0.2, math.nan], [0.4, math.nan]])
    assert _weighed(gains, 1.0).tolist() == _weighed(gains, 0.0).tolist()


@pytest.mark.parametrize("particles", [3, 5, 7, 100])
def test_equal_gains_beside_one_that_is_not_known_are_equal(particles: int) -> None:
    gains = torch.full((particles, 2), 0.3)
    gains[0] = math.nan
    assert len(set(_weighed(gains, 1.0).tolist())) == 1


def test_resampling_keeps_each_particle_about_as_often_as_its_probability_says() -> None:
    states = torch.arange(10.0)[:, None].expand(10, 3)
    probabilities = torch.tensor([0.55, 0.25, 0.2] + [0.0] * 7)
    for seed in range(20):
        kept = (
            _resampled(states, probabilities, torch.Generator().manual_seed(seed))[:, 0].long().bincount(minlength=10)
        )
        assert kept.sum() == 10
        assert ((kept - 10 * probabilities).abs() < 1).all()


def test_a_move_has_the_size_of_the_noise() -> None:
    """Ratios of weights change by noise·√2 in log."""
    w = _moved(torch.ones(20000, 2), 0.3, torch.Generator().manual_seed(0))
    assert (w[:, 0] / w[:, 1]).log().std().item() == pytest.approx(0.3 * math.sqrt(2), rel=0.02)


def test_uncertainty_is_the_spread_of_the_samples_losses() -> None:
    losses = torch.tensor([[1.0, 9.0], [3.0, 5.0], [2.0, 7.0]])
    labelled = torch.tensor([[1, 0], [1, 0], [0, 0]]).bool()
    sums = _moments(losses, labelled)
    assert sums.tolist() == [[2, 0], [4, 0], [10, 0]]
    assert _spread(*sums[:, 0].tolist()) == pytest.approx(0.5)
    assert math.isnan(_spread(*sums[:, 1].tolist()))
    name = TASKS[0].name
    seen = {**metrics(0.0), f"puw/count/{name}": 2.0, f"puw/sum/{name}": 4.0, f"puw/square/{name}": 10.0}
    assert prepared()._measured(TASKS[0], seen)[1] == pytest.approx(0.5)


def test_losses_that_are_all_the_same_have_no_uncertainty() -> None:
    """What rounding leaves of it would change by any factor from epoch to epoch."""
    losses = torch.full((7, 1), 0.3)
    assert math.isnan(_spread(*_moments(losses, losses > 0)[:, 0].tolist()))
    assert math.isnan(_spread(1, 2, 4 - 1e-6))


def test_a_loss_that_is_not_finite_counts_as_no_label() -> None:
    losses = torch.tensor([[1.0], [torch.inf], [torch.nan], [1e30], [3.0]])
    assert _moments(losses, torch.ones(5, 1, dtype=torch.bool)).flatten().tolist() == [2, 4, 10]


def test_uncertainty_is_that_of_the_epoch_however_labels_fall_on_its_steps() -> None:
    """As core averages what is logged: over steps, and over ranks just so, each with as many labels as it has."""
    torch.manual_seed(0)
    losses = torch.rand(12, 2) + 0.1
    labelled = torch.rand(12, 2) > 0.4
    labelled[:4, 0], labelled[4:, 1] = False, False
    averages = EpochMeans(torch.device("cpu"))
    for rows in (slice(0, 4), slice(4, 5), slice(5, 12)):
        sums = _moments(losses[rows], labelled[rows])
        averages.add({f"{name}/{k}": sums[row, k] for row, name in enumerate("nsq") for k in range(2)})
    means = averages.take()
    for k in range(2):
        own = losses[:, k][labelled[:, k]]
        expected = float(own.std(correction=0) / own.mean())
        assert _spread(*(means[f"{name}/{k}"] for name in "nsq")) == pytest.approx(expected, rel=1e-4)


def test_what_it_needs_for_that_is_logged_under_its_name() -> None:
    hooks = Hooks({"puw": PUW()}, required=())
    hooks.setup(TASKS, (8, 8), StubBackbone(width=4), lambda name: None)
    step = make_step(TASKS, make_batch(TASKS, masks(4, 3)["absent"]))
    hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
    kinds = ("weight", "count", "sum", "square")
    assert set(step.logged) == {f"puw/{kind}/{name}" for kind in kinds for name in TASKS.names}
    for name, column, count in zip(TASKS.names, step.losses.detach().unbind(1), (0, 4, 4), strict=True):
        found = [step.logged[f"puw/{kind}/{name}"].item() for kind in kinds[1:]]
        assert found == pytest.approx([count, column.sum().item(), (column**2).sum().item()], rel=1e-5)


def test_weights_multiply_the_losses_of_active_tasks() -> None:
    puw = prepared()
    step = make_step(TASKS, make_batch(TASKS, masks(4, 3)["absent"]))
    puw.weights.copy_(torch.tensor([0.5, 2.0, 0.5]))
    total = puw.combine_losses(losses=step.task_losses, active=step.active, step=step)
    assert total.item() == pytest.approx(float((2 * step.task_losses[1] + 0.5 * step.task_losses[2]).detach()))


@pytest.mark.parametrize("stopped", [2, 5, 8])
def test_a_resumed_run_goes_on_as_it_would_have(stopped: int) -> None:
    reward = lambda w: float(w[0] - w[1])  # noqa: E731 - short
    whole = run(prepared(particles=3, warmup_epochs=2), range(12), reward)
    first = prepared(particles=3, warmup_epochs=2)
    level = 0.0
    for epoch in range(stopped):
        level += reward(first.weights)
        first.after_epoch(epoch=epoch, metrics=metrics(level))
    other = prepared(seed=99, particles=3, warmup_epochs=2)
    other.load_state_dict(first.state_dict())
    torch.manual_seed(5)
    for epoch in range(stopped, 12):
        assert torch.equal(other.weights, whole[epoch]), epoch
        level += reward(other.weights)
        other.after_epoch(epoch=epoch, metrics=metrics(level))


def test_the_runs_seed_decides() -> None:
    one, same, other = (run(prepared(seed), range(8)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[-1], other[-1])


def test_without_validation_data_it_says_what_to_do() -> None:
    bare = {name: value for name, value in metrics(0.0).items() if not name.startswith("val/")}
    with pytest.raises(MtlError, match=r"puw: epoch 0 has no validation metrics.*validation = 0\.1"):
        prepared().after_epoch(epoch=0, metrics=bare)


@pytest.mark.parametrize("options", [{"particles": 1}, {"warmup_epochs": 0}, {"noise": 0}, {"uncertainty": -1}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        PUW(**options)
