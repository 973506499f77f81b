"""Miraliev's weighting: UW over objectives, and what the further objectives are."""

import attrs
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import Depth, Segmentation, Step
from mtl_core.testing import EXAMPLES, Hooks, LossRuleContract, StubBackbone, make_batch, make_step, make_tasks, masks
from mtl_weighting.miraliev import Miraliev
from mtl_weighting.objectives import _dice, _gradient
from mtl_weighting.uw import UW

TASKS = make_tasks()


class TestDice(LossRuleContract):
    has_own_losses = True

    @pytest.fixture
    def plugin(self) -> Miraliev:
        return Miraliev()


class TestBoth(LossRuleContract):
    has_own_losses = True
    task_names = ("segmentation", "edges", "depth", "shading", "scene")

    @pytest.fixture
    def plugin(self) -> Miraliev:
        return Miraliev(objectives=("dice", "gradient"))


def prepared(rule: UW) -> Hooks:
    hooks = Hooks({"rule": rule}, required=())
    hooks.setup(TASKS, (8, 8), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


def step_with(mask: str = "full", seed: int = 0) -> Step:
    return make_step(TASKS, make_batch(TASKS, masks(4, 3)[mask], size=(8, 8), seed=seed), seed=seed)


def combined(hooks: Hooks, step: Step) -> Tensor:
    return hooks.combine_losses(step.task_losses, step.task_means, step.active, step)


def test_without_further_objectives_it_is_uw() -> None:
    for mask in ("full", "one label", "absent"):
        plain, uw = (combined(prepared(rule), step_with(mask)) for rule in (Miraliev(objectives=()), UW()))
        assert torch.equal(plain, uw)


def test_objectives_of_tasks_in_the_order_of_the_uncertainties() -> None:
    rule = prepared(Miraliev(objectives=("dice", "gradient"))).plugins["rule"]
    assert rule.further == [("segmentation", "dice"), ("depth", "gradient")]
    assert rule.log_sigma.shape == (5,)


@pytest.mark.parametrize("mask", ["full", "one label", "absent"])
def test_every_objective_has_its_own_uncertainty(mask: str) -> None:
    """Against sums over samples in plain Python: a sample counts 1 / (number of its labels) in L_t, and in O too."""
    step = step_with(mask)
    hooks = prepared(Miraliev(objectives=("dice", "gradient")))
    sigma = torch.tensor([0.5, 0.8, 1.3, 2.0, 0.7])
    with torch.no_grad():
        hooks.plugins["rule"].log_sigma.copy_(sigma.log())
    labels = step.labelled.tolist()
    further = []
    for k, (name, loss) in enumerate((("segmentation", _dice), ("depth", _gradient))):
        per_sample = loss(step.tasks[name], step.predictions[name][0], step.targets[name])
        further.append(sum(per_sample[b] / sum(labels[b]) / 4 for b in range(4) if labels[b][k]))
    share = [sum(1 / sum(row) / 4 for row in labels if row[k]) for k in range(3)]
    terms = [
        o / (2 * s**2) + q * s.log()
        for o, q, s in zip([*step.task_losses, *further], [*share, *share[:2]], sigma, strict=True)
    ]
    torch.testing.assert_close(combined(hooks, step), torch.stack([torch.as_tensor(t) for t in terms]).sum())


def test_absent_task_moves_none_of_its_uncertainties() -> None:
    hooks = prepared(Miraliev())
    combined(hooks, step_with("absent")).backward()
    slope = hooks.plugins["rule"].log_sigma.grad
    assert slope[[0, 3]].tolist() == [0, 0]
    assert (slope[[1, 2]] != 0).all()


def test_the_further_objective_reaches_its_tasks_predictions() -> None:
    step = step_with()
    other = step_with()
    with_dice = torch.autograd.grad(combined(prepared(Miraliev()), step), [*step.predictions.values()])
    without = torch.autograd.grad(combined(prepared(UW()), other), [*other.predictions.values()])
    assert not torch.allclose(with_dice[0], without[0], rtol=1e-2)
    assert torch.equal(with_dice[1], without[1])


def half(step: Step, rows: slice, whole: Step) -> Step:
    """One rank's part of a step: its own samples and gradients, the global batch's values."""
    part = make_step(TASKS, make_batch(TASKS, whole.labelled[rows], size=(8, 8)))
    predictions = {n: p[:, rows].detach().requires_grad_() for n, p in whole.predictions.items()}
    targets = {n: t[rows] for n, t in whole.targets.items()}
    first = {n: p[0] for n, p in predictions.items()}
    columns = [t.loss(first[t.name], targets[t.name]) for t in TASKS]
    losses = torch.where(whole.labelled[rows], torch.stack(columns, 1), 0.0)
    local = (losses / whole.labelled[rows].sum(1, keepdim=True).clamp(min=1)).mean(0)
    task_losses = local + (whole.task_losses - local).detach()
    return attrs.evolve(
        part, predictions=predictions, targets=targets, losses=losses, task_losses=task_losses,
        task_means=whole.task_means.detach(), active=whole.active,
    )  # fmt: skip


@pytest.mark.parametrize("mask", ["full", "one label", "absent"])
def test_gradients_of_two_ranks_average_to_those_of_one_process(mask: str) -> None:
    whole = step_with(mask)
    hooks = prepared(Miraliev(objectives=("dice", "gradient")))
    sigma = hooks.plugins["rule"].log_sigma
    expected = torch.autograd.grad(combined(hooks, whole), [sigma, whole.predictions["segmentation"]])
    found = []
    arrived = []
    for rows in (slice(0, 2), slice(2, 4)):
        part = half(whole, rows, whole)
        slope, reached = torch.autograd.grad(combined(hooks, part), [sigma, part.predictions["segmentation"]])
        found.append(slope)
        arrived.append(reached)
    torch.testing.assert_close(torch.stack(found).mean(0), expected[0])
    torch.testing.assert_close(torch.cat(arrived, 1) / 2, expected[1])


def test_dice_by_counting() -> None:
    """Two classes shown of three, one pixel without a label."""
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.9, 0.05, 0.05]])
    prediction = probabilities.log().T.reshape(1, 3, 2, 2)
    target = torch.tensor([[[0, 1], [1, -1]]])
    first = 1 - 2 * 0.7 / (0.7 + 0.1 + 0.3 + 1)
    second = 1 - 2 * (0.8 + 0.3) / (0.2 + 0.8 + 0.3 + 2)
    found = _dice(Segmentation(name="s", channels=3), prediction, target)
    torch.testing.assert_close(found, torch.tensor([(first + second) / 2]))


def test_dice_is_0_where_all_is_right_and_1_where_all_is_wrong() -> None:
    target = torch.randint(5, (2, 6, 6), generator=torch.Generator().manual_seed(0))
    sure = 100 * F.one_hot(target, 5).movedim(-1, 1).float()
    task = EXAMPLES["segmentation"]
    torch.testing.assert_close(_dice(task, sure, target), torch.zeros(2))
    torch.testing.assert_close(_dice(task, sure, (target + 1) % 5), torch.ones(2))


def test_gradient_by_loops() -> None:
    generator = torch.Generator().manual_seed(3)
    prediction = torch.rand(2, 1, 3, 4, generator=generator)
    target = torch.rand(2, 1, 3, 4, generator=generator) + 0.5
    target[0, 0, 1, 2] = 0  # missing
    expected = []
    for b in range(2):
        e = (prediction - target)[b, 0].tolist()
        known = (target[b, 0] > 0).tolist()
        right = [abs(e[i][j + 1] - e[i][j]) for i in range(3) for j in range(3) if known[i][j] and known[i][j + 1]]
        down = [abs(e[i + 1][j] - e[i][j]) for i in range(2) for j in range(4) if known[i][j] and known[i + 1][j]]
        expected.append((sum(right) / len(right) + sum(down) / len(down)) / 2)
    torch.testing.assert_close(_gradient(Depth(name="d"), prediction, target), torch.tensor(expected))


@pytest.mark.parametrize(
    ("loss", "name"), [(_dice, "segmentation"), (_dice, "edges"), (_gradient, "depth"), (_gradient, "shading")]
)
def test_what_an_invalid_pixel_holds_reaches_nothing(loss: object, name: str) -> None:
    task = EXAMPLES[name]
    step = make_step(make_tasks(name), make_batch(make_tasks(name), size=(8, 8)))
    prediction = step.predictions[name][0]
    target = step.targets[name]
    blank = task.blank(target)
    mixed = torch.cat((target[:1], blank[1:]))
    found = loss(task, prediction, mixed)
    assert found[0] > 0
    assert found[1:].tolist() == [0, 0, 0]
    slope = torch.autograd.grad(found.sum(), prediction)[0]
    assert slope.isfinite().all()
    assert not slope[1:].any()
    assert not torch.where(task.valid(target[:1]), 0.0, slope[:1]).any()
