"""IAL on the real seam, against K backward passes written out here."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mtl_core import EncoderGradients, MtlError, Regression, Shaped, Tasks
from mtl_core.testing import LossScale, branch, gramian
from mtl_ial import IAL

D = torch.float64
NAMES = ("depth", "curvature", "shading")
TASKS = Tasks([Regression(name=name, channels=1) for name in NAMES])


class Small:
    """An encoder, K heads, eight samples, and IAL on the seam between them."""

    def __init__(self, labelled: Tensor, primary: str | tuple[str, ...] = "depth", seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Linear(5, 4, dtype=D), nn.Tanh())
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(4, 3, dtype=D), nn.Tanh()) for _ in NAMES)
        self.x = torch.randn(8, 5, dtype=D)
        self.y = torch.randn(3, 8, 3, dtype=D)
        self.labelled = labelled
        self.ial = IAL(primary=primary)
        self.ial.setup(name="ial", tasks=TASKS, places={"combine_losses": "ial"})
        self.ial.double()
        with torch.no_grad():
            self.ial.log_sigma.copy_(torch.tensor([0.7, 0.4, 0.8], dtype=D).log())

    def losses(self, predictions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """L_t and L̄_t, (K,)."""
        per_sample = torch.stack([(p - y).abs().mean(1) for p, y in zip(predictions, self.y, strict=True)])
        kept = torch.where(self.labelled.T, per_sample, torch.zeros_like(per_sample)).sum(1)
        return kept / len(self.x), kept / self.labelled.sum(0).clamp(min=1)

    @property
    def active(self) -> Tensor:
        return self.labelled.any(0)

    def train(self, regularizer=lambda predictions: 0.0) -> Shaped:
        """One backward pass through the seam."""
        scale = LossScale()
        answers = []
        state = SimpleNamespace()

        def shape(branches, loss_scale):
            gradients = EncoderGradients(
                tasks=TASKS, gramian=gramian(branches, loss_scale), active=self.active, losses=state.losses.detach(),
                means=state.means.detach(), decoder_weights=state.weights, branches=branches,
            )  # fmt: skip
            with torch.no_grad():
                answers.append(self.ial.shape_encoder_gradient(gradients))
            return answers[0].weights

        views = branch(self.encoder(self.x), 3, shape, scale)
        predictions = [head(z) for head, z in zip(self.heads, views, strict=True)]
        state.losses, state.means = self.losses(predictions)
        step = SimpleNamespace(tasks=TASKS, log=lambda name, value: None)
        total = self.ial.combine_losses(losses=state.losses, means=state.means, active=self.active, step=step)
        state.weights = torch.autograd.grad(total, state.losses, retain_graph=True)[0]
        scale.apply(total + regularizer(predictions)).backward()
        return answers[0]

    def by_hand(self, b: Tensor) -> list[Tensor]:
        """The encoder's gradient when ``b`` enters it."""
        return list(torch.autograd.grad(self.encoder(self.x), list(self.encoder.parameters()), b))

    def task_gradients(self) -> list[Tensor]:
        """∇_z L_t, one backward pass for each task."""
        z = self.encoder(self.x).detach().requires_grad_()
        losses = self.losses([head(z) for head in self.heads])[0]
        return [torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in losses]

    def check(self, b: Tensor) -> None:
        for parameter, expected in zip(self.encoder.parameters(), self.by_hand(b), strict=True):
            assert torch.allclose(parameter.grad, expected, rtol=1e-8, atol=1e-10)


def everything() -> Tensor:
    return torch.ones(8, 3, dtype=torch.bool)


def onelabel() -> Tensor:
    return torch.nn.functional.one_hot(torch.arange(8) % 3, 3).bool()


def without(task: int) -> Tensor:
    mask = everything()
    mask[:, task] = False
    return mask


@pytest.mark.parametrize("labelled", [everything(), onelabel()], ids=["full", "onelabel"])
def test_encoder_gradient_is_that_of_k_backward_passes(labelled: Tensor) -> None:
    small = Small(labelled)
    small.train()
    primary, second, third = small.task_gradients()
    # f(0.4) = 0.6, f(0.8) = 0.2; Eq. 7 and 8
    second, third = (primary.norm() / g.norm() * g for g in (second, third))
    small.check(primary + 0.6 * second + 0.2 * third)


def test_two_primaries_add_up() -> None:
    small = Small(everything(), primary=("depth", "shading"))
    small.train()
    first, auxiliary, second = small.task_gradients()
    primary = first + second
    small.check(primary + 0.6 * primary.norm() / auxiliary.norm() * auxiliary)


def test_heads_and_sigma_learn_by_uncertainty_weighting() -> None:
    small = Small(everything())
    small.train()
    sigma = torch.tensor([0.7, 0.4, 0.8], dtype=D)
    losses, means = small.losses([head(small.encoder(small.x)) for head in small.heads])
    for head, loss, s in zip(small.heads, losses, sigma, strict=True):
        plain = torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
        for parameter, expected in zip(head.parameters(), plain, strict=True):
            assert torch.allclose(parameter.grad, expected / (2 * s**2), rtol=1e-8, atol=1e-12)
    assert torch.allclose(small.ial.log_sigma.grad, 1 - means / sigma**2, rtol=1e-8)


def test_an_absent_auxiliary_enters_nothing_and_keeps_its_sigma() -> None:
    small = Small(without(1))
    small.train()
    primary, _, third = small.task_gradients()
    small.check(primary + 0.2 * primary.norm() / third.norm() * third)
    assert small.ial.log_sigma.grad[1] == 0


def test_a_regularizer_through_an_absent_auxiliarys_head_enters() -> None:
    small = Small(without(1))
    small.train(lambda predictions: 5 * predictions[1].square().sum())
    z = small.encoder(small.x).detach().requires_grad_()
    second = torch.autograd.grad(5 * small.heads[1](z).square().sum(), z)[0]
    primary, _, third = small.task_gradients()
    second, third = (primary.norm() / g.norm() * g for g in (second, third))
    small.check(primary + 0.6 * second + 0.2 * third)


def test_a_regularizer_through_the_primarys_head_is_part_of_it() -> None:
    small = Small(everything())
    small.train(lambda predictions: predictions[0].square().sum())
    primary, second, third = small.task_gradients()
    z = small.encoder(small.x).detach().requires_grad_()
    added = torch.autograd.grad(small.heads[0](z).square().sum(), z)[0]
    primary = primary + added * 2 * 0.7**2  # divided by the decoder weight 1/(2σ²)
    second, third = (primary.norm() / g.norm() * g for g in (second, third))
    small.check(primary + 0.6 * second + 0.2 * third)


def test_without_a_primary_label_the_running_mean_is_the_norm() -> None:
    small = Small(without(0))
    small.ial.norm_mean.fill_(0.01 * 3)
    small.ial.norm_count.fill_(1)
    small.train(lambda predictions: predictions[0].square().sum())
    z = small.encoder(small.x).detach().requires_grad_()
    primary = torch.autograd.grad(small.heads[0](z).square().sum(), z)[0]
    _, second, third = small.task_gradients()
    small.check(primary + 0.6 * 3 * second / second.norm() + 0.2 * 3 * third / third.norm())


def test_without_a_primary_label_ever_auxiliaries_enter_as_the_heads_saw_them() -> None:
    small = Small(without(0))
    small.train()
    _, second, third = small.task_gradients()
    small.check(0.6 * second / (2 * 0.4**2) + 0.2 * third / (2 * 0.8**2))


def test_the_running_mean_is_proposed_and_not_written() -> None:
    small = Small(everything())
    shaped = small.train()
    primary = small.task_gradients()[0]
    assert small.ial.norm_count == 0 == small.ial.norm_mean
    assert shaped.state["norm_count"] == 1
    assert shaped.state["norm_mean"].item() == pytest.approx(0.01 * primary.norm().item(), rel=1e-8)


def test_a_batch_without_primary_label_leaves_the_running_mean() -> None:
    shaped = Small(without(0)).train()
    assert shaped.state["norm_count"] == 0 == shaped.state["norm_mean"]


@pytest.mark.parametrize(("mapping", "sigma"), [("relu", 0.9), ("softplus", 1 - math.log(math.expm1(0.1)))])
def test_every_weight_starts_at_a_tenth(mapping: str, sigma: float) -> None:
    ial = IAL(primary="depth", mapping=mapping)
    ial.setup(name="ial", tasks=TASKS, places={})
    assert ial.log_sigma.exp().tolist() == pytest.approx([sigma] * 3, rel=1e-6)
    assert ial.auxiliary_weights.tolist() == pytest.approx([0.1] * 3, rel=1e-5)


def step(active: Tensor | None = None) -> SimpleNamespace:
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    active = torch.ones(3, dtype=torch.bool) if active is None else active
    logged: dict[str, Tensor] = {}
    return SimpleNamespace(
        tasks=TASKS, task_losses=losses, task_means=losses, active=active, logged=logged, log=logged.__setitem__
    )


def test_where_another_plugin_combines_sigma_learns_and_predictions_do_not() -> None:
    ial = IAL(primary="depth")
    ial.setup(name="ial", tasks=TASKS, places={"combine_losses": "other"})
    seen = step()
    ial.compute_regularizer(step=seen)["uncertainty"].backward()
    assert seen.task_losses.grad is None
    assert ial.log_sigma.grad.tolist() == pytest.approx([1 - loss / 0.81 for loss in (1, 2, 3)], rel=1e-5)


def test_where_it_combines_itself_it_is_no_regularizer() -> None:
    ial = IAL(primary="depth")
    ial.setup(name="ial", tasks=TASKS, places={"combine_losses": "ial"})
    assert ial.compute_regularizer(step=step()) is None


def test_sigma_and_weights_are_logged() -> None:
    ial = IAL(primary="depth")
    ial.setup(name="ial", tasks=TASKS, places={})
    seen = step()
    ial.combine_losses(losses=seen.task_losses, means=seen.task_means, active=seen.active, step=seen)
    assert set(seen.logged) == {*(f"sigma/{t}" for t in NAMES), "weight/curvature", "weight/shading"}
    assert seen.logged["weight/shading"].item() == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(("own", "expected"), [(None, 0.5), (1e-3, 1e-3)])
def test_sigma_has_its_own_learning_rate_if_asked_and_never_decays(own: float | None, expected: float) -> None:
    ial = IAL(primary="depth", sigma_learning_rate=own)
    ial.setup(name="ial", tasks=TASKS, places={})
    (group,) = ial.parameter_groups(learning_rate=0.5)
    assert [id(p) for p in group["params"]] == [id(ial.log_sigma)]
    assert (group["lr"], group["weight_decay"]) == (expected, 0)


def test_an_unknown_primary_names_the_nearest_task() -> None:
    with pytest.raises(MtlError, match=r"ial\.primary: .*'dept'; did you mean \"depth\"\?.*curvature, shading"):
        IAL(primary=("shading", "dept")).setup(name="ial", tasks=TASKS, places={})


@pytest.mark.parametrize(
    "options", [{"primary": ""}, {"primary": ()}, {"initial_weight": 0}, {"initial_weight": 1}, {"momentum": 1}]
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        IAL(**{"primary": "depth"} | options)
