"""JTR against the equations written out, in double precision."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core import MtlError, Step
from mtl_core.testing import StubBackbone, make_batch, make_step, make_tasks, with_losses
from mtl_jtr import JTR
from mtl_jtr.averages import Averages

TASKS = make_tasks("segmentation", "depth", "normals")
ONE_LABEL = torch.eye(3, dtype=torch.bool)[torch.tensor([0, 1, 2, 0])]
SOME = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)


def double(step: Step) -> Step:
    def moved(value: Tensor) -> Tensor:
        return value.detach().double().requires_grad_(value.requires_grad) if value.is_floating_point() else value

    return with_losses(
        attrs.evolve(
            step,
            predictions={name: moved(p) for name, p in step.predictions.items()},
            targets={name: moved(t) for name, t in step.targets.items()},
        )
    )


def step_of(labelled: Tensor = ONE_LABEL, views: int = 1) -> Step:
    return double(make_step(TASKS, make_batch(TASKS, labelled), views=views))


def jtr(norm: Any = "batch", **options: Any) -> JTR:
    torch.manual_seed(0)
    made = JTR(**options)
    made.setup("jtr", TASKS, StubBackbone(4, norm), nn.ModuleDict())
    return made.double()


def total(made: JTR, step: Step) -> Tensor:
    terms = made.compute_regularizer(step)
    return torch.stack(list(terms.values())).sum()


def plain_stacks(step: Step) -> tuple[Tensor, Tensor]:
    """Eq. 4, sample by sample and task by task; detached where a sample has no label, and so no distance."""
    rows = []
    known = []
    for b in range(len(step.labelled)):
        s, d, n = (step.predictions[t.name][0, b] for t in TASKS)
        predictions = [s.softmax(0), d, n / n.norm(dim=0, keepdim=True)]
        if not step.labelled[b].any():
            predictions = [p.detach() for p in predictions]
        labels = []
        valid = []
        for task in TASKS:
            target = step.targets[task.name][b]
            if task.name == "segmentation":
                labels.append(F.one_hot(target.clamp(min=0), 5).permute(2, 0, 1).double())
                valid.append(target >= 0)
            else:
                labels.append(target)
                valid.append(target[0] > 0 if task.name == "depth" else target.norm(dim=0) > 0.5)
        rows.append(torch.cat(predictions))
        parts = [
            torch.where(valid[k] & step.labelled[b, k], labels[k], predictions[k])
            for k in range(3)
        ]  # fmt: skip
        known.append(torch.cat(parts))
    return torch.stack(rows), torch.stack(known)


def plain_reconstruction(g: Any, stack: Tensor) -> Tensor:
    fixed = stack.detach()
    out = g(fixed)
    segmentation = -(fixed[:, :5] * out[:, :5].log_softmax(1)).sum(1).mean()
    depth = (out[:, 5:6] - fixed[:, 5:6]).abs().mean()
    a = out[:, 6:]
    b = fixed[:, 6:]
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return segmentation + depth + (1 - cosine).mean()


def plain_loss(made: JTR, step: Step) -> Tensor:
    """Eq. 5 with c_dist and c_recon: four encodings, two decodings, nothing shared."""
    guess, known = plain_stacks(step)
    a, b = (made.g.encode(stack).features.flatten(1) for stack in (guess, known))
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    counted = step.labelled.any(1)
    distance = ((1 - cosine) * counted).mean()
    recon = plain_reconstruction(made.g, guess) + plain_reconstruction(made.g, known)
    return made.c_dist * distance + made.c_recon * recon


def gradients(made: JTR, step: Step, loss: Tensor) -> dict[str, Tensor]:
    wanted = {**{f"prediction {n}": p for n, p in step.predictions.items()}, **dict(made.g.named_parameters())}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(wanted.items(), found, strict=True)}


@pytest.mark.parametrize("labelled", [ONE_LABEL, SOME, torch.ones(4, 3, dtype=torch.bool)])
def test_loss_and_every_gradient_equal_the_equations_written_out(labelled: Tensor) -> None:
    step = step_of(labelled)
    made = jtr()
    found = total(made, step)
    expected = plain_loss(made, step)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    theirs = gradients(made, step, expected)
    for name, gradient in gradients(made, step, found).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    assert all(theirs[f"prediction {t.name}"].abs().max() > 0 for t in TASKS)


def test_reconstruction_sends_nothing_to_predictions() -> None:
    step = step_of()
    made = jtr(c_dist=0.0)
    assert all(g.abs().max() == 0 for n, g in gradients(made, step, total(made, step)).items() if "prediction" in n)


def test_the_distance_reaches_a_prediction_that_stands_in_for_a_missing_label() -> None:
    """Through Y as well as through Ŷ: detaching the substitutes changes the gradient."""
    step = step_of()
    made = jtr(c_recon=0.0)
    whole = gradients(made, step, total(made, step))["prediction depth"]
    guess, known = plain_stacks(step)
    a = made.g.encode(guess).features.flatten(1)
    b = made.g.encode(known.detach()).features.flatten(1)
    only_guess = gradients(made, step, 4 * (1 - F.cosine_similarity(a, b)).mean())["prediction depth"]
    assert (whole - only_guess).norm() > 1e-3 * whole.norm()


def test_encoder_trained_on_reconstruction_alone() -> None:
    step = step_of()
    made = jtr(train_encoder_on="reconstruction")
    found = gradients(made, step, total(made, step))
    without = gradients(made, step, total_without_distance(made, step))
    for name, gradient in found.items():
        if not name.startswith("prediction"):
            torch.testing.assert_close(gradient, without[name], rtol=1e-8, atol=1e-12)
    both = gradients(jtr(), step, total(jtr(), step))
    torch.testing.assert_close(found["prediction normals"], both["prediction normals"], rtol=1e-8, atol=1e-12)


def total_without_distance(made: JTR, step: Step) -> Tensor:
    return made.compute_regularizer(step)["reconstruction"]


@pytest.mark.parametrize(
    ("kind", "formula"),
    [("l1", lambda a, b: (a - b).abs().mean(1)), ("l2", lambda a, b: (a - b).square().mean(1))],
)
def test_other_distances(kind: str, formula: Any) -> None:
    step = step_of()
    made = jtr(distance=kind, c_dist=1.0)
    guess, known = plain_stacks(step)
    a, b = (made.g.encode(stack).features.flatten(1) for stack in (guess, known))
    torch.testing.assert_close(made.compute_regularizer(step)["distance"], formula(a, b).mean())


def test_distance_per_location_and_centred() -> None:
    step = step_of()
    made = jtr(per_location=True, centred=True, c_dist=1.0)
    guess, known = plain_stacks(step)
    a, b = (made.g.encode(stack).features for stack in (guess, known))
    a = a - b.mean(0)
    b = b - b.mean(0)
    expected = torch.stack([1 - F.cosine_similarity(x, y, dim=0).mean() for x, y in zip(a, b, strict=True)]).mean()
    torch.testing.assert_close(made.compute_regularizer(step)["distance"], expected)


def test_without_reconstruction_there_is_no_decoder() -> None:
    made = jtr(reconstruct=False)
    assert list(made.compute_regularizer(step_of())) == ["distance"]
    assert not any("decoder" in name for name, _ in made.named_parameters())


def test_a_sample_without_labels_counts_nothing_or_the_distance_of_two_views() -> None:
    none = torch.zeros(4, 3, dtype=torch.bool)
    assert total(jtr(c_recon=0.0), step_of(none)) == 0
    step = step_of(none, views=2)
    made = jtr(c_recon=0.0, c_dist=1.0, unlabelled="consistency")
    assert made.views == 2
    one = plain_stacks(step)[0]
    two = plain_stacks(attrs.evolve(step, predictions={n: p[1:] for n, p in step.predictions.items()}))[0]
    a, b = (made.g.encode(stack).features.flatten(1) for stack in (one, two))
    torch.testing.assert_close(total(made, step), (1 - F.cosine_similarity(a, b)).mean())


@pytest.mark.parametrize("depth_as", ["metres", "cdf"], ids=["paper", "a switch"])
@pytest.mark.parametrize("unlabelled", ["ignore", "consistency"])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_distance_reaches_no_sample_that_it_does_not_use(norm: str, unlabelled: str, depth_as: str) -> None:
    """Labelled samples' second view, and either view of unlabelled ones that have no distance; batch norm sees all."""
    step = step_of(SOME, views=2)
    made = jtr(norm, unlabelled=unlabelled, depth_as=depth_as)
    found = gradients(made, step, made.compute_regularizer(step)["distance"])
    labelled = SOME.any(1).tolist()
    both = unlabelled == "consistency"
    for name in TASKS.names:
        reached = found[f"prediction {name}"].flatten(2).abs().amax(2) > 0
        assert reached.tolist() == [[has or both for has in labelled], [both and not has for has in labelled]]


def test_pictures_are_predictions_and_what_g_makes_of_both_stacks() -> None:
    step = step_of()
    made = jtr(depth_scale=10.0).eval()
    with torch.no_grad():
        drawn = made.draw_pictures(step)
    assert drawn is not None
    assert list(drawn) == ["predictions", "g of predictions", "g of labels"]
    scaled = step_of()
    scaled.predictions["depth"].data /= 10
    scaled.targets["depth"] /= 10
    for title, stack in zip(list(drawn)[1:], plain_stacks(scaled), strict=True):
        classes, depth, normals = made.g(stack).split((5, 1, 3), 1)
        expected = {"segmentation": classes, "depth": 10 * depth, "normals": normals}
        torch.testing.assert_close(drawn[title], expected)
    assert all(torch.equal(drawn["predictions"][t], step.predictions[t][0]) for t in TASKS.names)
    nothing = (jtr(reconstruct=False), jtr(variant="released"))
    assert [other.draw_pictures(step_of(views=3)) for other in nothing] == [None, None]


def test_equal_stacks_have_finite_gradients() -> None:
    step = step_of(torch.zeros(4, 3, dtype=torch.bool))
    made = jtr(per_location=True)
    assert all(g.isfinite().all() for g in gradients(made, step, total(made, step)).values())


def test_depth_scale_divides_metres_in_both_stacks() -> None:
    step = step_of()
    small = step_of()
    with torch.no_grad():
        small.predictions["depth"] /= 10
    small.targets["depth"] = small.targets["depth"] / 10
    torch.testing.assert_close(total(jtr(depth_scale=10.0), step), total(jtr(), small))


def test_bottleneck_and_width_size_the_network() -> None:
    made = jtr(bottleneck=12, width=8)
    assert made.g.encode(torch.rand(2, 9, 32, 32).double()).features.shape == (2, 12, 1, 1)
    assert made.g.encoder.width == 8


def test_tasks_per_image_are_refused_by_name_unless_left_out() -> None:
    mixed = make_tasks("segmentation", "scene", "depth")
    with pytest.raises(MtlError, match=r"'scene' has one value per image.*tasks = \['segmentation', 'depth'\]"):
        JTR().setup("jtr", mixed, StubBackbone(4), nn.ModuleDict())
    JTR(tasks=("segmentation", "depth")).setup("jtr", mixed, StubBackbone(4), nn.ModuleDict())
    with pytest.raises(MtlError, match='did you mean "depth"'):
        JTR(tasks=("dept",)).setup("jtr", mixed, StubBackbone(4), nn.ModuleDict())


def test_a_collapsed_latent_space_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    made = jtr()
    with caplog.at_level(logging.WARNING, "mtl"):
        made.after_epoch(0, {"jtr/latent_distance": 0.2})
        assert not caplog.records
        made.after_epoch(1, {"jtr/latent_distance": 1e-5})
        made.after_epoch(2, {"jtr/latent_distance": 1e-5})
    assert len(caplog.records) == 1
    assert "collapsed" in caplog.text


def test_the_warning_recommends_no_option_that_makes_it_worse(caplog: pytest.LogCaptureFixture) -> None:
    """Kept alive the term was far worse than collapsed: docs/methods/jtr.md, Watch for collapse."""
    with caplog.at_level(logging.WARNING, "mtl"):
        jtr().after_epoch(0, {"jtr/latent_distance": 1e-5})
    for option in ("train_encoder_on", "unpool", "centred"):
        assert option not in caplog.text
    assert "docs/methods/jtr.md" in caplog.text


def test_distance_reconstruction_and_spread_are_logged() -> None:
    step = step_of()
    jtr().compute_regularizer(step)
    names = {"latent_distance", "latent_cosine", *(f"reconstruction/{t.name}" for t in TASKS)}
    assert set(step.logged) == names


def test_terms_keep_their_gradients_apart() -> None:
    """Half of the distance and a third of the reconstruction, as a rule that weighs terms would ask for."""
    step = step_of(SOME)
    made = jtr()
    plain = jtr(c_dist=2.0, c_recon=2 / 3)
    terms = made.compute_regularizer(step)
    found = gradients(made, step, terms["distance"] / 2 + terms["reconstruction"] / 3)
    for name, expected in gradients(plain, step, plain_loss(plain, step)).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_a_backward_pass_can_be_repeated() -> None:
    step = step_of()
    made = jtr()
    loss = total(made, step)
    wanted = list(made.g.parameters())
    once = torch.autograd.grad(loss, wanted, retain_graph=True)
    for first, second in zip(once, torch.autograd.grad(loss, wanted), strict=True):
        assert torch.equal(first, second)


def test_the_memory_format_changes_no_result() -> None:
    step = step_of()
    made = jtr()
    other = jtr(channels_last=False)
    assert made.g.encoder.levels[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    theirs = gradients(other, step, total(other, step))
    for name, gradient in gradients(made, step, total(made, step)).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-8, atol=1e-10)


def test_half_precision_keeps_every_gradient() -> None:
    step = make_step(TASKS, make_batch(TASKS, ONE_LABEL))
    made = jtr().float()
    exact = gradients(made, step, total(made, step))
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(made, step)
    assert loss.dtype == torch.float32
    for name, gradient in gradients(made, step, loss).items():
        assert gradient.isfinite().all()
        assert exact[name].norm() == 0 or gradient.norm() > 0, name


def test_no_gradient_is_stored_before_the_backward_pass() -> None:
    """``.grad`` stays empty in the forward pass: on several ranks DDP would otherwise reduce it twice."""
    step = step_of()
    made = jtr()
    total(made, step)
    assert all(p.grad is None for p in [*made.parameters(), *step.predictions.values()])


@pytest.mark.parametrize("size", [(16, 24), (17, 30)])
def test_averages_of_blocks_are_a_smooth_g(size: tuple[int, int]) -> None:
    """Every pixel of a block has the same gradient; g is linear in the stack."""
    torch.manual_seed(0)
    g = Averages(5, 7)
    x = torch.rand(2, 5, *size, requires_grad=True)
    latent = g.encode(x)
    assert latent.features.shape == (2, 7, -(-size[0] // 8), -(-size[1] // 8))
    assert g.decode(latent).shape == x.shape
    gradient = torch.autograd.grad(latent.features.square().sum(), x)[0]
    block = gradient[:, :, :8, :8]
    torch.testing.assert_close(block, block[:, :, :1, :1].expand_as(block))
    weight = g.encoder.weight[:, :, 0, 0]
    expected = weight @ x[0, :, 8:16, 8:16].mean((1, 2)) + g.encoder.bias
    torch.testing.assert_close(latent.features[0, :, 1, 1], expected)


def test_the_smooth_g_is_an_option() -> None:
    made = JTR(network="averages", bottleneck=9)
    made.setup("jtr", TASKS, StubBackbone(4), nn.ModuleDict())
    assert isinstance(made.g, Averages)
    assert made.g.encoder.out_channels == 9
    half = JTR(network="averages", reconstruct=False)
    half.setup("jtr", TASKS, StubBackbone(4), nn.ModuleDict())
    assert not hasattr(half.g, "decoder")
