"""GradNorm: its weights against the published update, written out here."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from mtl_core import EncoderGradients, MtlError, Shaped, hookimpl, plugin
from mtl_core.testing import (
    TOY_TASKS,
    GradientShaperContract,
    GradientWatcherContract,
    Hooks,
    LossRuleContract,
    Network,
    StubBackbone,
    ToyNetwork,
    TrainingStep,
    encoder_gradients,
    make_batch,
    make_step,
    make_tasks,
    masks,
    random_rows,
)
from mtl_weighting.gradnorm import GradNorm, relative_rates, slopes

D = torch.float64


class TestWatcher(GradientWatcherContract):
    @pytest.fixture
    def plugin(self) -> GradNorm:
        return GradNorm()


class TestLossRule(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> GradNorm:
        return GradNorm(optimizer="sgd")


class TestShaper(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> GradNorm:
        return GradNorm(alpha=0, place="encoder")


@plugin
class Sum:
    """Adds the losses up and leaves the branches as they are."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return torch.ones_like(gradients.norms)


def prepared(*others: object, use: dict[str, str] | None = None, **options: object) -> Hooks:
    plugins = {"gradnorm": GradNorm(**options), **{f"other{i}": o for i, o in enumerate(others)}}
    hooks = Hooks(plugins, use, required=())
    hooks.setup(make_tasks(), (8, 8), StubBackbone(width=4), lambda name: None)
    hooks.plugins["gradnorm"].double()
    return hooks


def gradients_of(rows: Tensor, means: Tensor, active: Tensor | None = None) -> EncoderGradients:
    found = encoder_gradients(rows, active=active)
    found.means = means.to(rows.dtype)
    return found


def proposed(hooks: Hooks, gradients: EncoderGradients) -> Mapping[str, Tensor]:
    shaped = hooks.shape_encoder_gradient(gradients)
    return shaped.state if isinstance(shaped, Shaped) else hooks.watch_encoder_gradient(gradients)["gradnorm"]


def keep(hooks: Hooks, gradients: EncoderGradients) -> None:
    """One step of which core keeps the state."""
    buffers = dict(hooks.plugins["gradnorm"].named_buffers())
    for name, value in proposed(hooks, gradients).items():
        buffers[name].copy_(value)


def weights(hooks: Hooks) -> Tensor:
    return hooks.plugins["gradnorm"].memory.weights


def published(w: Tensor, plain: Tensor, losses: Tensor, first: Tensor, alpha: float) -> Tensor:
    """Gradient of Σ|w_t ‖∇L_t‖ − target_t| by w, by autograd, divided by the mean norm."""
    w = w.clone().requires_grad_()
    norms = w * plain
    ratios = losses / first
    targets = (norms.mean() * (ratios / ratios.mean()) ** alpha).detach()
    (norms - targets).abs().sum().backward()
    assert w.grad is not None
    return w.grad / norms.mean().detach()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_weights_move_as_published(optimizer: str, alpha: float) -> None:
    """Ten steps: the gradient by autograd, the move by torch's optimizer, then Σw = 3."""
    hooks = prepared(alpha=alpha, weight_learning_rate=0.05, optimizer=optimizer)
    w = torch.ones(3, dtype=D, requires_grad=True)
    steps = (torch.optim.Adam if optimizer == "adam" else torch.optim.SGD)([w], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    first = None
    for k in range(10):
        rows = random_rows(3, seed=k) * torch.tensor([[1.0], [3.0], [0.2]], dtype=D)
        losses = torch.rand(3, dtype=D, generator=generator) + 0.5
        first = losses if first is None else first
        keep(hooks, gradients_of(rows * w.detach()[:, None], losses))
        w.grad = published(w.detach(), rows.norm(dim=1), losses, first, alpha)
        steps.step()
        with torch.no_grad():
            w.mul_(3 / w.sum())
        assert torch.allclose(weights(hooks), w.detach(), rtol=1e-6), k


def test_norms_come_together() -> None:
    """With α = 0 the weighted norms of tasks of very different size meet."""
    hooks = prepared(alpha=0.0)
    rows = random_rows(3)
    sizes = torch.tensor([[1.0], [4.0], [0.5]], dtype=D)
    for _ in range(400):
        keep(hooks, gradients_of(rows * sizes * weights(hooks)[:, None], torch.ones(3)))
    norms = (rows * sizes).norm(dim=1) * weights(hooks)
    assert norms.max() / norms.min() < 1.1
    assert weights(hooks).sum().item() == pytest.approx(3)


def test_a_task_that_learns_slowly_gets_more() -> None:
    hooks = prepared()
    rows = random_rows(3)
    rows = rows / rows.norm(dim=1, keepdim=True)
    keep(hooks, gradients_of(rows, torch.ones(3)))
    for _ in range(20):
        keep(hooks, gradients_of(rows * weights(hooks)[:, None], torch.tensor([1.0, 0.5, 0.5])))
    assert weights(hooks)[0] > 1.1
    assert (weights(hooks)[1:] < 1).all()


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_scale_of_gradients_and_losses_does_not_matter(scale: float) -> None:
    plain = prepared()
    scaled = prepared()
    for k in range(3):
        rows = random_rows(3, seed=k)
        losses = torch.tensor([1.0, 2.0 + k, 0.5])
        keep(plain, gradients_of(rows, losses))
        keep(scaled, gradients_of(rows * scale, losses * scale))
    assert torch.allclose(weights(plain), weights(scaled), rtol=1e-6)


def test_order_of_the_tasks_does_not_matter() -> None:
    plain = prepared()
    other = prepared()
    order = torch.tensor([2, 0, 1])
    for k in range(3):
        rows = random_rows(3, seed=k)
        losses = torch.tensor([1.0, 2.0 + k, 0.5])
        keep(plain, gradients_of(rows, losses))
        keep(other, gradients_of(rows[order], losses[order]))
    assert torch.allclose(weights(plain)[order], weights(other), rtol=1e-9)


def test_an_absent_task_keeps_all_it_has() -> None:
    """And Σw over the present ones stays what it was, so that Σw = K for ever."""
    hooks = prepared()
    keep(hooks, gradients_of(random_rows(3), torch.tensor([1.0, 2.0, 3.0])))
    before = hooks.plugins["gradnorm"].memory
    after = proposed(
        hooks, gradients_of(random_rows(3, seed=1) * torch.tensor([[1], [0], [1]]), torch.tensor([1.0, 0.0, 1.0]))
    )
    for name in ("weights", "first", "slope", "square", "count"):
        assert after[name][1] == getattr(before, name)[1], name
    assert (after["weights"] != before.weights).tolist() == [True, False, True]
    assert after["weights"].sum().item() == pytest.approx(3)


def test_a_subset_moves_as_if_there_were_no_other_task() -> None:
    full = prepared(optimizer="sgd")
    pair = random_rows(3, seed=1)
    keep(full, gradients_of(pair * torch.tensor([[1], [0], [1]]), torch.tensor([1.0, 0.0, 2.0])))
    keep(full, gradients_of(pair * torch.tensor([[1], [0], [1]]), torch.tensor([0.5, 0.0, 2.0])))
    w = torch.ones(2, dtype=D)
    plain = pair[[0, 2]].norm(dim=1)
    first = torch.tensor([1.0, 2.0], dtype=D)
    for losses in (first, torch.tensor([0.5, 2.0], dtype=D)):
        # the branches above carried no weight: of norms n = ‖b‖ the plain ones are n / w
        w = w - 0.025 * published(w, plain / w, losses, first, 1.5)
        w = w * 2 / w.sum()
    assert torch.allclose(weights(full)[[0, 2]], w, rtol=1e-6)


def test_a_task_that_only_a_regularizer_reached_takes_no_part() -> None:
    """Neither before it was ever labelled nor later."""
    hooks = prepared()
    active = torch.tensor([True, False, True])
    keep(hooks, gradients_of(random_rows(3), torch.tensor([1.0, 0.0, 1.0]), active))
    assert hooks.plugins["gradnorm"].memory.seen.tolist() == active.tolist()
    assert weights(hooks)[1] == 1
    keep(hooks, gradients_of(random_rows(3), torch.ones(3)))
    before = weights(hooks).clone()
    keep(hooks, gradients_of(random_rows(3), torch.tensor([1.0, 0.0, 1.0]), active))
    assert (weights(hooks) == before).tolist() == [False, True, False]


def test_the_first_loss_is_that_of_the_first_step_with_a_label() -> None:
    hooks = prepared()
    for means in ([4.0, 0.0, 1.0], [2.0, 3.0, 1.0], [1.0, 1.0, 1.0]):
        active = torch.tensor(means) > 0
        keep(hooks, gradients_of(random_rows(3), torch.tensor(means), active))
    assert hooks.plugins["gradnorm"].memory.first.tolist() == [4, 3, 1]


@pytest.mark.parametrize("present", [[0, 0, 0], [0, 1, 0]])
def test_one_task_or_none_changes_no_weight(present: list[int]) -> None:
    hooks = prepared()
    rows = random_rows(3) * torch.tensor(present)[:, None]
    keep(hooks, gradients_of(rows, torch.tensor(present)))
    keep(hooks, gradients_of(rows, torch.tensor(present) * 0.5))
    assert torch.allclose(weights(hooks), torch.ones(3, dtype=D), rtol=1e-12)


def test_a_labelled_task_without_gradient_stands_aside() -> None:
    hooks = prepared()
    rows = random_rows(3) * torch.tensor([[1], [0], [1]])
    everything = torch.ones(3, dtype=torch.bool)
    keep(hooks, gradients_of(rows, torch.ones(3), everything))
    assert weights(hooks)[1] == 1
    assert weights(hooks).isfinite().all()


def test_an_infinite_loss_with_finite_gradients_spoils_nothing() -> None:
    hooks = prepared()
    keep(hooks, gradients_of(random_rows(3), torch.tensor([1.0, math.inf, 1.0]), torch.ones(3, dtype=torch.bool)))
    assert hooks.plugins["gradnorm"].memory.seen.tolist() == [True, False, True]
    keep(hooks, gradients_of(random_rows(3), torch.ones(3)))
    before = weights(hooks).clone()
    keep(hooks, gradients_of(random_rows(3), torch.tensor([1.0, math.inf, 1.0]), torch.ones(3, dtype=torch.bool)))
    assert (weights(hooks) == before).tolist() == [False, True, False]
    assert weights(hooks).isfinite().all()


def test_no_weight_reaches_zero() -> None:
    hooks = prepared(alpha=0.0, weight_learning_rate=0.5, optimizer="sgd")
    rows = random_rows(3)
    for _ in range(20):
        keep(hooks, gradients_of(rows * torch.tensor([[1e3], [1.0], [1.0]]), torch.ones(3)))
        assert (weights(hooks) > 0).all()


def test_all_losses_zero_count_as_equally_fast() -> None:
    rates = relative_rates(torch.zeros(3), torch.ones(3), torch.ones(3, dtype=torch.bool))
    assert rates.tolist() == [1, 1, 1]
    assert slopes(torch.ones(3), rates, torch.ones(3), torch.ones(3, dtype=torch.bool), 1.5).tolist() == [0, 0, 0]


def test_weights_multiply_the_losses_of_active_tasks() -> None:
    hooks = prepared()
    hooks.plugins["gradnorm"].weights.copy_(torch.tensor([0.5, 2.0, 0.5]))
    step = make_step(make_tasks(), make_batch(make_tasks(), masks(4, 3)["absent"]))
    total = hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
    assert total.item() == pytest.approx(float((2 * step.task_losses[1] + 0.5 * step.task_losses[2]).detach()))


def test_in_the_encoder_the_weights_are_on_the_branches() -> None:
    """The branches carry no weight then, so that their norms are multiplied with it before they are compared."""
    encoder = prepared(optimizer="sgd", place="encoder")
    losses = prepared(optimizer="sgd")
    for k in range(3):
        rows = random_rows(3, seed=k)
        w = weights(losses).clone()
        keep(losses, gradients_of(rows * w[:, None], torch.ones(3)))
        shaped = encoder.shape_encoder_gradient(gradients_of(rows, torch.ones(3)))
        assert isinstance(shaped, Shaped)
        assert torch.allclose(shaped.weights, w, rtol=1e-9)
        keep(encoder, gradients_of(rows, torch.ones(3)))
    assert torch.allclose(weights(encoder), weights(losses), rtol=1e-9)


@pytest.mark.parametrize(("place", "hook"), [("losses", "combine_losses"), ("encoder", "shape_encoder_gradient")])
def test_where_another_plugin_has_its_place_it_says_what_to_do(place: str, hook: str) -> None:
    with pytest.raises(MtlError, match=rf'gradnorm: .*plugin "other0".*\[use\] {hook} = "gradnorm"'):
        prepared(Sum(), use={hook: "other0"}, place=place)


def test_weights_are_logged() -> None:
    hooks = prepared()
    step = make_step(make_tasks())
    hooks.watch_encoder_gradient(encoder_gradients(random_rows(3), step=step))
    assert {name: value.item() for name, value in step.logged.items()} == {
        f"gradnorm/weight/{task}": 1 for task in make_tasks().names
    }


def test_state_goes_on_where_it_was_saved() -> None:
    hooks = prepared()
    batches = [random_rows(3, seed=s) for s in range(6)]
    for rows in batches[:3]:
        keep(hooks, gradients_of(rows, rows.abs().mean(1)))
    other = prepared()
    other.plugins["gradnorm"].load_state_dict(hooks.plugins["gradnorm"].state_dict())
    for rows in batches[3:]:
        for each in (hooks, other):
            keep(each, gradients_of(rows, rows.abs().mean(1)))
    assert torch.equal(weights(hooks), weights(other))


@pytest.mark.parametrize("beside", [{}, {"other": Sum()}])
def test_in_training_the_norms_come_together(beside: dict[str, object]) -> None:
    """On the real seam: w is in the loss, its effect is in the norms that core measures, whoever shapes these."""
    gradnorm = GradNorm(alpha=0, weight_learning_rate=0.05)
    plugins = {"network": ToyNetwork(channels=4), "gradnorm": gradnorm, **beside}
    hooks = Hooks(plugins, {"combine_losses": "gradnorm"}, ())
    torch.manual_seed(0)
    backbone = hooks.build_backbone((16, 16))
    network = Network(backbone, hooks.build_heads(backbone, TOY_TASKS, (16, 16)), TOY_TASKS)
    hooks.setup(TOY_TASKS, (16, 16), StubBackbone(width=4), lambda name: None)
    step = TrainingStep(network, hooks)
    batch = make_batch(TOY_TASKS, masks(6, 3)["full"], size=(16, 16))
    spread = []
    for number in range(60):
        step(batch, number)[0].backward()
        step.seam.commit()
        assert hooks.plugins["gradnorm"].count.max() == number + 1
        norms = torch.stack([step.seam.logged[f"encoder/norm/{name}"] for name in TOY_TASKS.names])
        spread.append((norms.max() / norms.min()).item())
    assert spread[-1] < 1.2 < spread[0]


@pytest.mark.parametrize("options", [{"alpha": -1}, {"weight_learning_rate": 0}, {"optimizer": "adagrad"}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GradNorm(**options)
