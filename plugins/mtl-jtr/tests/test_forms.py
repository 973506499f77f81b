"""The forms beside the paper's, each against its equations written out sample by sample, in double precision."""

from __future__ import annotations

import math
import re
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core import Step
from mtl_core.testing import (
    StubBackbone,
    make_batch,
    make_step,
    make_tasks,
    other_channels,
    read_options,
    stub_heads,
    with_losses,
)
from mtl_jtr import JTR
from mtl_jtr.masks import only_shown, shown_maps
from mtl_jtr.smooth import Smooth

TASKS = make_tasks("segmentation", "depth", "normals")
CHANNELS = (5, 1, 3)
ONE_LABEL = torch.eye(3, dtype=torch.bool)[torch.tensor([0, 1, 2, 0])]
SOME = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)


def double(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: double(part) for name, part in value.items()}
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    return value


def step_of(labelled: Tensor = ONE_LABEL, views: int = 1, progress: float = 1.0) -> Step:
    made = make_step(TASKS, make_batch(TASKS, labelled, size=(32, 32)), views=views)
    parts = {name: double(getattr(made, name)) for name in ("predictions", "targets", "images")}
    return with_losses(attrs.evolve(made, progress=progress, **parts))


def jtr(**options: Any) -> JTR:
    torch.manual_seed(0)
    backbone = StubBackbone(2)
    heads = stub_heads(backbone, TASKS).double()
    torch.manual_seed(0)
    made = JTR(**options)
    made.setup("jtr", TASKS, backbone, heads)
    return made.double()


def gradients(made: JTR, step: Step, loss: Tensor) -> dict[str, Tensor]:
    wanted = {**{f"prediction {n}": p for n, p in step.predictions.items()}, **dict(made.g.named_parameters())}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(wanted.items(), found, strict=True)}


def agree(made: JTR, step: Step, found: Tensor, expected: Tensor) -> dict[str, Tensor]:
    """The values and every gradient, and those that were expected."""
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    theirs = gradients(made, step, expected)
    for name, gradient in gradients(made, step, found).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-7, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    return theirs


def reached(found: dict[str, Tensor]) -> set[str]:
    """Which of predictions, θ1 and θ2 have a gradient at all."""
    names = {name for name, gradient in found.items() if gradient.abs().max() > 0}
    parts = {"prediction": "predictions", "encoder": "θ1", "decoder": "θ2", "head": "θ2"}
    return {parts[name.split(".")[0].split(" ")[0]] for name in names}


def label_space(outputs: dict[str, Tensor], b: int) -> list[Tensor]:
    s, d, n = (outputs[task.name][b] for task in TASKS)
    return [s.softmax(0), d, n / n.norm(dim=0, keepdim=True)]


def plain_stacks(step: Step, substitutes: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Ŷ and Y of view 0, map by map."""
    first = {name: p[0] for name, p in step.predictions.items()}
    rows = []
    known = []
    for b in range(len(step.labelled)):
        predicted = label_space(first, b)
        standing = predicted if substitutes is None else label_space(substitutes, b)
        s, d, n = (step.targets[task.name][b] for task in TASKS)
        labels = [F.one_hot(s.clamp(min=0), 5).permute(2, 0, 1).double(), d, n]
        valid = [s >= 0, d[0] > 0, n.norm(dim=0) > 0.5]
        if not step.labelled[b].any():  # batch norm sees it, but it has no distance
            predicted = [p.detach() for p in predicted]
            standing = [p.detach() for p in standing]
        rows.append(torch.cat(predicted))
        known.append(torch.cat([
            torch.where(valid[k] & step.labelled[b, k], labels[k], standing[k]) for k in range(3)
        ]))  # fmt: skip
    return torch.stack(rows), torch.stack(known)


def plain_distance(made: JTR, step: Step, guess: Tensor, known: Tensor, fixed: bool = False) -> Tensor:
    a, b = (made.g.encode(stack).features.flatten(1) for stack in (guess, known))
    if fixed:
        b = b.detach()
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return ((1 - cosine) * step.labelled.any(1)).mean()


def plain_reconstruction(made: JTR, shown: Tensor, whole: Tensor) -> Tensor:
    out = made.g.decode(made.g.encode(shown.detach()))
    fixed = whole.detach()
    segmentation = -(fixed[:, :5] * out[:, :5].log_softmax(1)).sum(1).mean()
    depth = (out[:, 5:6] - fixed[:, 5:6]).abs().mean()
    return segmentation + depth + (1 - F.cosine_similarity(out[:, 6:], fixed[:, 6:], dim=1)).mean()


# target = "fixed"


@pytest.mark.parametrize("labelled", [ONE_LABEL, SOME])
def test_a_fixed_target_is_moved_by_nothing(labelled: Tensor) -> None:
    step = step_of(labelled)
    made = jtr(target="fixed")
    guess, known = plain_stacks(step)
    expected = 4 * plain_distance(made, step, guess, known.detach(), fixed=True)
    theirs = agree(made, step, made.compute_regularizer(step)["distance"], expected)
    assert reached(theirs) == {"predictions", "θ1"}


def test_a_fixed_target_changes_the_gradient_and_not_the_value() -> None:
    step = step_of()
    fixed = jtr(target="fixed")
    free = jtr()
    one = fixed.compute_regularizer(step)["distance"]
    other = free.compute_regularizer(step)["distance"]
    assert torch.equal(one, other)
    a = gradients(fixed, step, one)
    b = gradients(free, step, other)
    for name in ("prediction depth", "encoder.levels.0.0.weight"):
        assert (a[name] - b[name]).norm() > 1e-3 * b[name].norm()


def test_a_fixed_target_leaves_the_reconstruction_and_two_views_as_they_are() -> None:
    step = step_of(SOME, views=2)
    found = {}
    for target in ("fixed", "trained"):
        made = jtr(target=target, unlabelled="consistency")
        terms = made.compute_regularizer(step)
        found[target] = gradients(made, step, terms["distance"]), gradients(made, step, terms["reconstruction"])
    for name, gradient in found["fixed"][1].items():
        torch.testing.assert_close(gradient, found["trained"][1][name])
    # the sample without labels compares its two views, and both are moved
    for task in TASKS.names:
        a, b = (found[target][0][f"prediction {task}"][:, 3] for target in ("fixed", "trained"))
        torch.testing.assert_close(a, b)
        assert (a.flatten(1).abs().amax(1) > 0).all()


# ramp


@pytest.mark.parametrize(("ramp_as", "factor"), [("sigmoid", math.exp(-5 * 0.75**2)), ("linear", 0.25)])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_ramp_multiplies_the_distance_and_leaves_the_reconstruction(
    variant: str, ramp_as: str, factor: float
) -> None:
    views = 3 if variant == "released" else 1
    plain = {"variant": variant, "network": "averages"}
    options = {**plain, "ramp": 0.4, "ramp_as": ramp_as}
    terms = jtr(**options).compute_regularizer(step_of(views=views, progress=0.1))
    whole = jtr(**plain).compute_regularizer(step_of(views=views, progress=0.1))
    for name, term in terms.items():
        torch.testing.assert_close(term, (1.0 if name == "reconstruction" else factor) * whole[name])
    after = jtr(**options).compute_regularizer(step_of(views=views, progress=0.4))
    assert all(torch.equal(after[name], whole[name]) for name in whole)


def test_without_a_ramp_progress_changes_nothing() -> None:
    one, two = (jtr(network="averages").compute_regularizer(step_of(progress=p)) for p in (0.0, 1.0))
    assert all(torch.equal(one[name], two[name]) for name in one)


# masked


def test_masked_reconstruction_gives_back_whole_stacks_from_some_of_their_maps() -> None:
    step = step_of(SOME)
    made = jtr(masked=0.5)
    state = step.generator.get_state()
    terms = made.compute_regularizer(step)
    generator = torch.Generator()
    generator.set_state(state)
    expected = torch.zeros((), dtype=torch.float64)
    for stack in plain_stacks(step):
        drawn = torch.rand(4, 3, generator=generator)
        shown = stack.detach().clone()
        for b in range(4):
            for k, channels in enumerate((slice(0, 5), slice(5, 6), slice(6, 9))):
                if drawn[b, k] < 0.5 and drawn[b, k] < drawn[b].max():
                    shown[b, channels] = 0
        assert (shown == 0).flatten(2).all(2).any()
        expected = expected + 2 * plain_reconstruction(made, shown, stack)
    theirs = agree(made, step, terms["reconstruction"], expected)
    assert reached(theirs) == {"θ1", "θ2"}
    guess, known = plain_stacks(step)
    torch.testing.assert_close(terms["distance"], 4 * plain_distance(made, step, guess, known))


@pytest.mark.parametrize("masked", [0.0, 0.4, 0.999])
def test_of_every_sample_g_is_shown_something(masked: float) -> None:
    shown = shown_maps(4000, 3, masked, torch.Generator().manual_seed(0))
    assert shown.any(1).all()
    left = 1 - masked + masked**3 / 3
    assert float(shown.float().mean()) == pytest.approx(left, abs=0.02)


def test_all_channels_of_a_task_are_hidden_together() -> None:
    stack = torch.rand(2, 9, 4, 4) + 1
    hidden = only_shown(stack, torch.tensor([[True, False, True], [False, True, False]]), TASKS)
    kept = [[1] * 5 + [0] + [1] * 3, [0] * 5 + [1] + [0] * 3]
    assert torch.equal(hidden, stack * torch.tensor(kept)[:, :, None, None])


def test_what_is_hidden_comes_from_the_step() -> None:
    made = jtr(masked=0.5)
    one, same, other = (step_of() for _ in range(3))
    other.generator.manual_seed(7)
    a, b, c = (made.compute_regularizer(step)["reconstruction"] for step in (one, same, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


# substitutes = "ema"


def test_predictions_of_the_average_stand_in_for_missing_labels() -> None:
    step = step_of(SOME)
    made = jtr(substitutes="ema")
    with torch.no_grad():
        for weight in made.average.heads["depth"].buffers():
            weight += 0.3
    average = {name: p.detach() for name, p in made.average(step.images[0]).items()}
    guess, known = plain_stacks(step, average)
    # as the paper's form does: nothing reaches the predictions of a sample without labels
    expected = 4 * plain_distance(made, step, guess, known) + 2 * sum(
        (plain_reconstruction(made, stack, stack) for stack in (guess, known)), torch.zeros(())
    )
    terms = made.compute_regularizer(step)
    theirs = agree(made, step, terms["distance"] + terms["reconstruction"], expected)
    assert reached(theirs) == {"predictions", "θ1", "θ2"}
    assert reached(gradients(made, step, terms["distance"])) == {"predictions", "θ1"}
    assert not torch.allclose(known, plain_stacks(step)[1])


def test_the_average_follows_the_network_once_a_step() -> None:
    made = jtr(substitutes="ema", ema_decay=0.9)
    _, heads = made.average._source
    first = heads["depth"].linear.weight.detach().clone()
    with torch.no_grad():
        heads["depth"].linear.weight.add_(1.0)
    made.average.count.fill_(100)
    made.before_step(None)  # type: ignore[arg-type]
    torch.testing.assert_close(made.average.heads["depth"].linear.weight, first + 0.1)


def test_only_an_average_asks_for_a_look_at_every_step() -> None:
    assert "before_step" not in JTR().fills
    assert "before_step" in JTR(substitutes="ema").fills
    assert not hasattr(jtr(), "average")


# c_pseudo


@pytest.mark.parametrize("pseudo_from", ["labels", "stack"])
def test_what_g_makes_of_the_labels_trains_unlabelled_predictions_only(pseudo_from: str) -> None:
    labelled = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    step = step_of(labelled)
    made = jtr(c_pseudo=0.3, masked=0.4, pseudo_from=pseudo_from)
    terms = made.compute_regularizer(step)
    _, known = plain_stacks(step)
    shown = known.detach().clone()
    if pseudo_from == "labels":
        for b in range(4):
            for k, channels in enumerate((slice(0, 5), slice(5, 6), slice(6, 9))):
                if not labelled[b, k]:
                    shown[b, channels] = 0
    out = made.g.decode(made.g.encode(shown)).detach()
    s, d, n = (step.predictions[task.name][0] for task in TASKS)
    losses = [
        -(out[:, :5].softmax(1) * s.log_softmax(1)).sum(1).mean((1, 2)),
        (d - out[:, 5:6]).abs().mean((1, 2, 3)),
        (1 - F.cosine_similarity(n, out[:, 6:], dim=1)).mean((1, 2)),
    ]
    expected = 0.3 * (losses[1][0] + losses[2][0] + losses[0][1]) / 4
    theirs = agree(made, step, terms["pseudo"], expected)
    assert reached(theirs) == {"predictions"}


def test_pseudo_labels_grow_with_the_ramp() -> None:
    options = {"network": "averages", "c_pseudo": 0.3, "masked": 0.4, "ramp": 0.5, "ramp_as": "linear"}
    half, whole = (jtr(**options).compute_regularizer(step_of(progress=p))["pseudo"] for p in (0.25, 0.5))
    torch.testing.assert_close(half, whole / 2)


def test_pseudo_labels_of_depth_are_metres() -> None:
    """A g that says 0.5 everywhere, in units of 10 m."""
    step = step_of()
    made = jtr(c_pseudo=1.0, pseudo_from="stack", depth_scale=10.0, tasks=("depth", "normals"), network="averages")
    with torch.no_grad():
        made.g.decoder.weight.zero_()
        made.g.decoder.bias[:] = torch.tensor([0.5, 1.0, 0.0, 0.0])
    found = made.compute_regularizer(step)["pseudo"]
    depth = step.predictions["depth"][0, 2]
    normals = F.normalize(step.predictions["normals"][0, 1], dim=0)
    expected = ((depth - 5).abs().mean() + (1 - normals[0]).mean()) / 4
    torch.testing.assert_close(found, expected)


def test_a_head_with_other_channels_than_its_labels_has_pseudo_labels_too() -> None:
    tasks = other_channels()
    backbone = StubBackbone(4)
    made = JTR(c_pseudo=1.0, masked=0.4, network="averages")
    made.setup("jtr", tasks, backbone, nn.ModuleDict())
    term = made.compute_regularizer(make_step(tasks, make_batch(tasks, torch.eye(len(tasks), dtype=torch.bool))))
    assert term["pseudo"].isfinite()


# network = "smooth"


@pytest.mark.parametrize("size", [(32, 48), (17, 30)])
def test_a_smooth_g_has_no_kinks(size: tuple[int, int]) -> None:
    """Its second derivative along a line is continuous: central differences of two widths agree."""
    torch.manual_seed(0)
    g = Smooth(5, 4, 7).double()
    x, v = torch.rand(2, 2, 5, *size).double().unbind()
    latent = g.encode(x)
    assert latent.features.shape == (2, 7, -(-size[0] // 8), -(-size[1] // 8))
    assert g.decode(latent).shape == x.shape

    def value(t: float) -> Tensor:
        return g.decode(g.encode(x + t * v)).square().sum().detach()

    wide, narrow = ((value(h) - 2 * value(0.0) + value(-h)) / h**2 for h in (1e-2, 1e-3))
    torch.testing.assert_close(wide, narrow, rtol=1e-3, atol=0.0)


def test_the_smooth_convolutions_are_an_option() -> None:
    made = jtr(network="smooth", bottleneck=9, width=6)
    assert isinstance(made.g, Smooth)
    assert made.g.encoder[0].out_channels == 6
    assert made.g.encoder[-1].out_channels == 9
    step = step_of()
    guess, known = plain_stacks(step)
    terms = made.compute_regularizer(step)
    expected = 4 * plain_distance(made, step, guess, known)
    agree(made, step, terms["distance"], expected)
    assert not hasattr(jtr(network="smooth", reconstruct=False).g, "decoder")


# what excludes what


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "released", "target": "fixed"}, "target"),
        ({"depth_as": "cdf", "masked": 0.4}, "masked"),
        ({"variant": "released", "substitutes": "ema"}, "substitutes"),
        ({"variant": "released", "c_pseudo": 0.3, "pseudo_from": "stack"}, "c_pseudo"),
        ({"reconstruct": False, "masked": 0.4}, "reconstruct = true"),
        ({"reconstruct": False, "c_pseudo": 0.3, "pseudo_from": "stack"}, "reconstruct = true"),
        ({"c_pseudo": 0.3}, "set masked"),
    ],
)
def test_forms_that_exclude_each_other_are_one_message(options: dict[str, Any], message: str) -> None:
    _, problems = read_options(JTR, options)
    assert len(problems) == 1
    assert re.search(message, problems[0]), problems


def test_all_forms_work_together() -> None:
    made = jtr(network="averages", target="fixed", masked=0.4, ramp=0.3, substitutes="ema", c_pseudo=0.1)
    step = step_of(SOME, progress=0.2)
    terms = made.compute_regularizer(step)
    assert list(terms) == ["distance", "reconstruction", "pseudo"]
    found = {name: reached(gradients(made, step, term)) for name, term in terms.items()}
    assert found == {"distance": {"predictions", "θ1"}, "reconstruction": {"θ1", "θ2"}, "pseudo": {"predictions"}}
