"""IAL in a whole training step of the framework, beside a regularizer."""

import pytest
import torch
from torch import Tensor, nn

from mtl_core import Step, hookimpl, plugin
from mtl_core.testing import TOY_TASKS, Hooks, Network, StubBackbone, ToyNetwork, TrainingStep, make_batch, masks
from mtl_ial import IAL

SIZE = (16, 16)


@plugin
class Pull:
    """Pulls the normals' prediction towards zero."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"pull": step.predictions["normals"].square().mean()}


def training_step(*others: object, **options: object) -> TrainingStep:
    """IAL and others on the toy network, always with the same weights."""
    plugins = {"ial": IAL(primary="segmentation", **options), **{f"other{i}": o for i, o in enumerate(others)}}
    hooks = Hooks({"network": ToyNetwork(channels=4), **plugins}, required=())
    torch.manual_seed(0)
    backbone = hooks.build_backbone(SIZE)
    network = Network(backbone, hooks.build_heads(backbone, TOY_TASKS, SIZE), TOY_TASKS)
    hooks.setup(TOY_TASKS, SIZE, StubBackbone(width=4), lambda name: torch.manual_seed(1))
    return TrainingStep(network, hooks)


def run(step: TrainingStep, mask: str) -> dict[str, Tensor]:
    """One backward pass and what it logged, the optimizer step taken."""
    step.zero_grad()
    total, logged = step(make_batch(TOY_TASKS, masks(6, 3)[mask], size=SIZE), 0)
    total.backward()
    step.seam.commit()
    return logged | step.seam.logged


def encoder_gradient(step: TrainingStep) -> Tensor:
    return torch.cat([p.grad.flatten() for p in step.network.backbone.parameters()])


def test_the_running_mean_is_kept_and_used_when_the_primary_is_absent() -> None:
    step = training_step()
    ial = step.hooks.plugins["ial"]
    first = run(step, "full")
    assert ial.norm_count == 1
    primary = first["encoder/norm/segmentation"] * first["encoder/weight/segmentation"]
    second = run(step, "absent")
    assert ial.norm_count == 1
    entered = second["encoder/norm/depth"] * second["encoder/weight/depth"]
    assert torch.allclose(entered, 0.1 * primary, rtol=1e-4)


def test_a_regularizer_reaches_the_encoder_through_an_unlabelled_task() -> None:
    plain = training_step()
    pulled = training_step(Pull())
    run(plain, "alone")
    logged = run(pulled, "alone")
    assert logged["train/active/normals"] == 0
    assert logged["encoder/norm/normals"] > 0
    added = encoder_gradient(pulled) - encoder_gradient(plain)
    assert added.norm() > 1e-3 * encoder_gradient(plain).norm()


def test_the_encoder_is_that_of_one_task_while_no_auxiliary_is_labelled() -> None:
    step = training_step()
    run(step, "alone")
    gradient = encoder_gradient(step)
    batch = make_batch(TOY_TASKS, masks(6, 3)["alone"], size=SIZE)
    loss = TOY_TASKS[0].loss(step.network(batch.images)["segmentation"], batch.targets["segmentation"]).mean()
    parameters = list(step.network.backbone.parameters())
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-6 * expected.norm().item())


def test_logged_names_carry_the_plugins() -> None:
    logged = run(training_step(), "full")
    assert {"ial/sigma/segmentation", "ial/sigma/depth", "ial/weight/depth", "ial/weight/normals"} <= set(logged)


def test_sigma_settles_at_the_root_of_the_mean_loss() -> None:
    """With one label per sample too, where L_t is a third of L̄_t."""
    step = training_step()
    sigma: nn.Parameter = step.hooks.plugins["ial"].log_sigma
    optimizer = torch.optim.Adam([sigma], lr=0.05)
    for _ in range(200):
        logged = run(step, "one label")
        optimizer.step()
    means = torch.stack([logged[f"train/loss/{name}"] for name in TOY_TASKS.names])
    assert torch.allclose(sigma.detach().exp().square(), means, rtol=1e-2)


def test_a_bad_batch_leaves_the_running_mean() -> None:
    step = training_step()
    ial = step.hooks.plugins["ial"]
    run(step, "full")
    before = ial.norm_mean.clone()
    batch = make_batch(TOY_TASKS, size=SIZE)
    total, _ = step(batch._replace(images=batch.images * float("nan")), 1)
    total.backward()
    step.seam.commit()
    assert (ial.norm_mean, ial.norm_count) == (before, 1)
    assert encoder_gradient(step).isnan().any()


@pytest.mark.parametrize("mask", ["full", "one label", "absent", "none"])
def test_a_step_runs_on_the_meta_device(mask: str) -> None:
    step = training_step(Pull()).to("meta")
    batch = make_batch(TOY_TASKS, masks(6, 3)[mask], size=SIZE)
    moved = batch._replace(
        images=batch.images.to("meta"),
        targets={name: target.to("meta") for name, target in batch.targets.items()},
        labelled=batch.labelled.to("meta"),
        index=batch.index.to("meta"),
    )
    total, _ = step(moved, 0)
    total.backward()
    assert {str(p.grad.device) for p in step.network.parameters()} == {"meta"}
