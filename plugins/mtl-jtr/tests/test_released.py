"""The released code's form, switch by switch, against plain computations: sample by sample, in double precision."""

from __future__ import annotations

import math
import re
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core import MtlError, Step, draw_windows, generator_for
from mtl_core.testing import StubBackbone, make_batch, make_step, make_tasks, read_options, with_losses
from mtl_jtr import JTR
from mtl_jtr.entries import View, _gumbel, _hard_sample
from mtl_jtr.options import _PAPER, _RELEASED
from mtl_nn import Networks

TASKS = make_tasks("segmentation", "depth", "normals")
SOME = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]], dtype=torch.bool)
CHANNELS = [5, 1, 3]
SIZE = (64, 32)
AS_PAPER: dict[str, Any] = {a.name: getattr(_PAPER, a.name) for a in attrs.fields(type(_PAPER))}
AS_RELEASED: dict[str, Any] = {a.name: getattr(_RELEASED, a.name) for a in attrs.fields(type(_RELEASED))}


def double(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: double(part) for name, part in value.items()}
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    return value


def step_of(labelled: Tensor = SOME, views: int = 3, moved: bool = False) -> Step:
    made = make_step(TASKS, make_batch(TASKS, labelled, size=SIZE), views=views)
    windows = draw_windows(views, len(labelled), (1.0, 1.5), generator_for(5, "windows")).double() if moved else None
    made = attrs.evolve(made, predictions=double(made.predictions), targets=double(made.targets), windows=windows)
    return with_losses(made)


def jtr(**options: Any) -> JTR:
    torch.manual_seed(0)
    made = JTR(**options)
    made.setup("jtr", TASKS, StubBackbone(4), nn.ModuleDict())
    return made.double()


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def gradients(made: JTR, step: Step, loss: Tensor, keep: bool = False) -> dict[str, Tensor]:
    wanted = {**{f"prediction {n}": p for n, p in step.predictions.items()}, **dict(made.g.named_parameters())}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, retain_graph=keep)
    return {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(wanted.items(), found, strict=True)}


class Plain:
    """What METHODS lists, written out: one sample after another, nothing shared, everything by autograd.

    Noise is drawn as the plugin draws it, for the whole batch at once.
    """

    def __init__(self, made: JTR, step: Step, **switches: Any) -> None:
        self.made = made
        self.step = step
        self.s = {**AS_PAPER, **switches}
        self.generator = generator_for(0, "step", 0, 0)
        self.size = len(step.labelled)

    def noise(self) -> Tensor:
        seed = int(torch.randint(2**62, (), generator=self.generator))
        uniform = torch.rand(self.size, 5, *SIZE, generator=torch.Generator().manual_seed(seed)).double()
        return -torch.log(-torch.log(uniform))

    def maps(self, view: int, b: int) -> list[tuple[Tensor, Tensor, Tensor, bool]]:
        """Of each task: what the head gives, the label in label space, its valid pixels, whether it is there."""
        targets = self.step.targets_of(view)
        rows = []
        for k, task in enumerate(TASKS):
            out = self.step.predictions[task.name][view, b]
            target = targets[task.name][b]
            there = bool(self.step.labelled[b, k])
            if self.s["detach_labelled"] and there:
                out = out.detach()
            if k == 0:
                label = F.one_hot(target.clamp(min=0), 5).permute(2, 0, 1).double()
                valid = target >= 0
            else:
                label = target
                valid = target[0] > 0 if k == 1 else target.norm(dim=0) > 0.5
            rows.append((out, label * valid, valid, there))
        return rows

    def counted(self, view: int, b: int) -> Tensor:
        shared = torch.ones(SIZE, dtype=torch.bool)
        for _, _, valid, there in self.maps(view, b):
            if there and self.s["validity"] == "shared":
                shared = shared & valid
        return shared

    def label_space(self, k: int, out: Tensor) -> Tensor:
        return (out.softmax(0), out, out / out.norm(dim=0))[k]

    def form(self, k: int, values: Tensor) -> Tensor:
        if k == 1 and self.s["depth_as"] == "cdf":
            return 0.5 * (1 + torch.erf((values - 2.3618) / (1.5876 * math.sqrt(2))))
        return (values + 1) / 2 if k == 2 and self.s["normals_as"] == "positive" else values

    def guess(self, view: int, b: int, k: int, noise: Tensor | None) -> Tensor:
        out = self.maps(view, b)[k][0]
        values = self.label_space(k, out)
        if k == 0 and noise is not None:
            soft = (out + noise[b]).softmax(0)
            values = F.one_hot(soft.argmax(0), 5).permute(2, 0, 1) + soft - soft.detach()
        return self.form(k, values * self.counted(view, b))

    def guessed(self, view: int, soft: bool = False) -> Tensor:
        noise = self.noise() if self.s["segmentation_as"] == "samples" and not soft else None
        rows = [torch.cat([self.guess(view, b, k, noise) for k in range(3)]) for b in range(self.size)]
        return torch.stack(rows)

    def known(self, view: int) -> Tensor:
        guess = self.guessed(view)
        rows = []
        for b in range(self.size):
            parts = list(guess[b].split(CHANNELS))
            for k, (_, label, valid, there) in enumerate(self.maps(view, b)):
                if there:
                    everywhere = torch.ones_like(valid) if self.s["validity"] == "shared" else valid
                    parts[k] = torch.where(everywhere, self.form(k, label), parts[k])
            rows.append(torch.cat(parts))
        return torch.stack(rows)

    def raw(self, view: int, b: int, k: int) -> Tensor:
        """The label where it stands in Y, else the prediction, in label space."""
        out, label, valid, there = self.maps(view, b)[k]
        prediction = self.label_space(k, out)
        if not there:
            return prediction
        return label if self.s["validity"] == "shared" else torch.where(valid, label, prediction)

    def encode(self, stack: Tensor) -> Any:
        return self.made.g.encode(stack)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        found = []
        for x, y, labelled in zip(a, b, self.step.labelled, strict=True):
            if self.s["per_location"]:
                cosine = ((x * y).sum(0) / (x.norm(dim=0) * y.norm(dim=0))).mean()
            else:
                cosine = (x * y).sum() / (x.norm() * y.norm())
            found.append((1 - cosine) * labelled.any())
        return torch.stack(found).mean()

    def rebuilt(self, view: int, stack: Tensor, targets: list[list[Tensor]]) -> Tensor:
        out = self.made.g(stack.detach())
        if self.s["reconstruction_as"] == "losses":
            pairs = zip(out, stack.detach(), strict=True)
            return torch.stack([self.own_losses(one, target) for one, target in pairs]).mean()
        rows = zip(out, targets, strict=True)
        return torch.stack([self.counts(o, t, self.counted(view, b)) for b, (o, t) in enumerate(rows)]).mean()

    def own_losses(self, out: Tensor, target: Tensor) -> Tensor:
        classes = -(target[:5] * out[:5].log_softmax(0)).sum(0).mean()
        a = out[6:]
        b = target[6:]
        cosine = (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0)).clamp(min=1e-8)
        return classes + (out[5] - target[5]).abs().mean() + (1 - cosine).mean()

    def counts(self, out: Tensor, targets: list[Tensor], counted: Tensor) -> Tensor:
        s, d, n = (target.detach() for target in targets)
        p = out[:5].sigmoid()
        entropy = -(s * p.log() + (1 - s) * (1 - p).log()) * counted
        share = (out[5:6].sigmoid() - 0.5) * (1 - 1e-5) + 0.5
        behind = 0.5 * (1 + torch.erf((d - 2.3618) / (1.5876 * math.sqrt(2))))
        cosine = out[6:] / out[6:].norm(dim=0) * n * counted
        nonzero = [max(int((t != 0).sum()), 1) for t in (s, d, n)]
        return (
            entropy.sum() / nonzero[0]
            + ((share - behind).abs() * counted).sum() / nonzero[1]
            + 1
            - cosine.sum() / nonzero[2]
        )

    def reconstruction(self, view: int, guess: Tensor, known: Tensor) -> Tensor:
        of_known = [[row[:5], self.raw(view, b, 1), self.raw(view, b, 2)] for b, row in enumerate(known)]
        redrawn = self.guessed(view) if self.s["segmentation_as"] == "samples" else guess
        if self.s["reconstruction_as"] == "losses":
            redrawn = guess
        of_guess = [[new[:5], row[5:6], row[6:]] for new, row in zip(redrawn, guess, strict=True)]
        return self.rebuilt(view, guess, of_guess) + self.rebuilt(view, known, of_known)

    def loss(self) -> Tensor:
        if not self.s["separate"]:
            guess = self.guessed(0)
            known = self.known(0)
            distance = self.distance(self.encode(guess).features, self.encode(known).features)
            return 4 * distance + 2 * self.reconstruction(0, guess, known)
        guess = self.guessed(1)
        known = self.known(1)
        frozen = [p.requires_grad_(False) for p in self.made.g.parameters()]
        network = self.distance(self.encode(guess).features, self.encode(known).features)
        for p in frozen:
            p.requires_grad_()
        guess = self.guessed(2, soft=True)
        known = self.known(2)
        own = self.distance(self.encode(guess.detach()).features, self.encode(known.detach()).features)
        return 4 * network + 8 * own + 2 * self.reconstruction(2, guess, known)


def agrees(made: JTR, step: Step, plain: Plain) -> None:
    found = total(made.compute_regularizer(step))
    expected = plain.loss()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    theirs = gradients(made, step, expected)
    for name, gradient in gradients(made, step, found).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


def differs(made: JTR, other: JTR, step: Step) -> bool:
    one, two = (gradients(m, step, total(m.compute_regularizer(step))) for m in (made, other))
    return any(bool((one[name] - two[name]).norm() > 1e-6 * (1 + two[name].norm())) for name in one)


ALONE: dict[str, Any] = {
    "separate": True,
    "detach_labelled": True,
    "segmentation_as": "samples",
    "depth_as": "cdf",
    "normals_as": "positive",
    "validity": "shared",
    "reconstruction_as": "counts",
    "per_location": True,
}


@pytest.mark.parametrize("switch", ALONE)
def test_each_switch_alone_equals_the_plain_computation(switch: str) -> None:
    one = {switch: ALONE[switch]}
    step = step_of()
    made = jtr(**one)
    agrees(made, step, Plain(made, step, **one))
    assert differs(made, jtr(), step), "the switch does nothing"


@pytest.mark.parametrize("switch", ALONE)
def test_the_released_form_without_one_switch_equals_the_plain_computation(switch: str) -> None:
    given = {switch: AS_PAPER[switch], "statistics": "batch"}
    given |= {"crops": ()} if switch == "separate" else {}
    step = step_of(moved=switch != "separate")
    made = jtr(variant="released", **given)
    agrees(made, step, Plain(made, step, **{**AS_RELEASED, **given}))


def test_the_released_form_equals_the_plain_computation() -> None:
    step = step_of(moved=True)
    made = jtr(variant="released", statistics="batch")
    agrees(made, step, Plain(made, step, **AS_RELEASED))


def test_all_switches_at_the_papers_values_are_the_paper() -> None:
    made = jtr(variant="released", **AS_PAPER)
    assert made.views == 1
    assert made.switches == _PAPER
    step = step_of(views=1)
    for name, term in jtr().compute_regularizer(step).items():
        assert torch.equal(term, made.compute_regularizer(step)[name])


def test_view_1_leaves_g_alone_and_view_2_leaves_the_predictions_alone() -> None:
    made = jtr(variant="released")
    step = step_of()
    terms = made.compute_regularizer(step)
    network = gradients(made, step, terms["distance"], True)
    assert all(g.abs().max() == 0 for n, g in network.items() if not n.startswith("prediction"))
    for view, expected in ((0, False), (1, True), (2, False)):
        reached = any(bool(g[view].abs().max() > 0) for n, g in network.items() if n.startswith("prediction"))
        assert reached is expected, f"view {view}"
    for name in ("distance_of_g", "reconstruction"):
        own = gradients(made, step, terms[name], True)
        assert all(g.abs().max() == 0 for n, g in own.items() if n.startswith("prediction")), name
        assert any(g.abs().max() > 0 for n, g in own.items() if not n.startswith("prediction")), name


@pytest.mark.parametrize("statistics", ["sample", "batch"])
def test_the_distance_reaches_unlabelled_tasks_only(statistics: str) -> None:
    """Of samples that have any label: the last one has no distance."""
    labelled = SOME & (torch.arange(4) < 3)[:, None]
    made = jtr(variant="released", statistics=statistics)
    step = step_of(labelled)
    found = gradients(made, step, made.compute_regularizer(step)["distance"])
    for k, task in enumerate(TASKS):
        for b in range(4):
            reached = bool(found[f"prediction {task.name}"][1, b].abs().max() > 0)
            assert reached is (b < 3 and not labelled[b, k]), f"{task.name} of sample {b}"


def test_statistics_of_one_sample_at_a_time_are_those_of_batch_norm_on_one_sample() -> None:
    """The released code passes samples through g one by one: batch norm sees one of them at a time."""
    torch.manual_seed(0)
    plain = Networks(4).autoencoder(9, 9).double()
    made = jtr(statistics="sample")
    made.g.load_state_dict(plain.state_dict(), strict=False)
    stack = torch.rand(3, 9, *SIZE, generator=generator_for(0, "stack")).double()
    one_by_one = torch.cat([plain(one[None]) for one in stack])
    torch.testing.assert_close(made.g(stack), one_by_one)
    assert (plain(stack) - one_by_one).abs().max() > 0.01
    assert not any(isinstance(m, nn.BatchNorm2d) for m in jtr(variant="released", reconstruct=False).g.modules())


def test_samples_are_one_hot_and_as_frequent_as_their_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 200, 200).double()
    drawn = _hard_sample(logits, _gumbel(logits, generator_for(0, "draws")))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean((0, 2, 3)), logits[0, :, 0, 0].softmax(0), atol=0.01, rtol=0)


def test_noise_is_drawn_where_the_logits_are_from_one_number_of_the_host() -> None:
    one = generator_for(0, "draws")
    other = generator_for(0, "draws")
    logits = torch.zeros(1, 3, 30, 30)
    assert not torch.equal(_gumbel(logits, one), _gumbel(logits, one))
    for _ in range(2):
        torch.randint(2**62, (), generator=other)
    assert torch.equal(one.get_state(), other.get_state()), "a number for each map, not one for each pixel"
    assert _gumbel(logits.to("meta"), one).is_meta


def test_views_and_windows_are_the_variants() -> None:
    paper = jtr()
    released = jtr(variant="released")
    generator = generator_for(0, "windows")
    assert (paper.views, released.views, jtr(separate=True).views) == (1, 3, 3)
    assert paper.choose_windows(3, 4, generator) is None
    assert jtr(separate=True).choose_windows(3, 4, generator) is None
    windows = released.choose_windows(3, 400, generator)
    assert windows is not None
    assert windows.shape == (2, 400, 3)
    assert torch.equal(windows[..., 0].unique(), torch.tensor([1.0, 1.2, 1.5]))
    only = jtr(separate=True, crops=(2.0,)).choose_windows(3, 4, generator)
    assert only is not None
    assert (only[..., 0] == 2).all()


def test_g_can_be_trained_by_its_reconstruction_alone_or_by_its_distance_alone() -> None:
    step = step_of()
    by_reconstruction = jtr(variant="released", train_encoder_on="reconstruction").compute_regularizer(step)
    assert set(by_reconstruction) == {"distance", "reconstruction"}
    assert set(jtr(variant="released", reconstruct=False).compute_regularizer(step)) == {"distance", "distance_of_g"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "released", "unlabelled": "consistency"}, r"unlabelled: .*needs separate = false"),
        ({"crops": [1.2]}, r"crops: .*separate = true"),
        ({"separate": True, "crops": [0.5]}, r"crops: must all be >= 1"),
        ({"depth_as": "feet"}, r'depth_as: .*"metres"'),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], message: str) -> None:
    _, problems = read_options(JTR, options)
    assert len(problems) == 1
    assert re.search(message, problems[0]), problems
    with pytest.raises(ValueError, match=r"separate|>= 1|'depth_as'"):
        JTR(**{name: tuple(v) if isinstance(v, list) else v for name, v in options.items()})


def test_consistency_of_views_goes_with_the_other_switches() -> None:
    none = torch.zeros(4, 3, dtype=torch.bool)
    step = step_of(none, views=2)
    made = jtr(depth_as="cdf", normals_as="positive", unlabelled="consistency", c_recon=0.0)
    plain = Plain(made, step, depth_as="cdf", normals_as="positive")
    a, b = (made.space.encode(plain.guessed(view)).features.flatten(1) for view in (0, 1))
    expected = 4 * (1 - F.cosine_similarity(a, b)).mean()
    torch.testing.assert_close(made.compute_regularizer(step)["distance"], expected)


class Half(nn.Module):
    """A backbone that makes networks of its own."""

    def autoencoder(self, in_channels: int, out_channels: int, bottleneck: int | None) -> nn.Module:
        return Networks(2).autoencoder(in_channels, out_channels, bottleneck=bottleneck)


def test_g_of_the_backbones_kind() -> None:
    backbone = Half()
    made = JTR(network="backbone", bottleneck=7)
    made.setup("jtr", TASKS, backbone, nn.ModuleDict())
    assert (made.g.encoder.width, made.g.encoder.channels) == (2, 7)
    half = JTR(network="backbone", reconstruct=False)
    half.setup("jtr", TASKS, backbone, nn.ModuleDict())
    assert not any("decoder" in name for name, _ in half.named_parameters())
    step = make_step(TASKS, make_batch(TASKS, SOME, size=(32, 32)))
    for plugin in (made, half):
        assert total(plugin.compute_regularizer(step)).isfinite()
    with pytest.raises(MtlError, match="statistics"):
        JTR(variant="released", network="backbone").setup("jtr", TASKS, backbone, nn.ModuleDict())


def test_depth_scale_changes_what_enters_and_not_what_is_reconstructed() -> None:
    step = step_of()
    made = jtr(reconstruction_as="counts", depth_scale=10.0)
    view = View.of(step, TASKS, 0, made.switches, made.depth_scale)
    plain = View.of(step, TASKS, 0, made.switches, 1.0)
    guess = view.guess()
    known = view.known()
    torch.testing.assert_close(10 * known[1], plain.known()[1])
    torch.testing.assert_close(view.guess_targets(guess)[1], step.predictions["depth"][0])
    torch.testing.assert_close(view.known_targets(known)[1], plain.known()[1])


def test_labels_without_a_valid_pixel_do_no_harm() -> None:
    step = step_of(torch.ones(4, 3, dtype=torch.bool))
    blank = {task.name: task.blank(step.targets[task.name]) for task in TASKS}
    step = with_losses(attrs.evolve(step, targets=blank))
    made = jtr(variant="released")
    found = total(made.compute_regularizer(step))
    assert found.isfinite()
    assert all(g.isfinite().all() for g in gradients(made, step, found).values())
