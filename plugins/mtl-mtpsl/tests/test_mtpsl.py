"""MTPSL against the equations written out pair by pair and sample by sample, in double precision."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import Batch, MtlError, Step, draw_windows, generator_for
from mtl_core.testing import StubBackbone, make_batch, make_step, make_tasks, with_losses
from mtl_mtpsl import MTPSL
from mtl_mtpsl.maps import _hard_sample
from mtl_mtpsl.pairs import most_labels, most_pairs, ordered_pairs, placed
from mtl_nn import SegNet

TASKS = make_tasks("segmentation", "depth", "normals")
NAMES = TASKS.names
SIZE = (32, 64)
ONE_LABEL = torch.eye(3, dtype=torch.bool)[torch.tensor([0, 1, 2])]
SOME = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.bool)
TWO_LABELS = torch.tensor([[0, 1, 1], [0, 1, 1], [1, 0, 1], [0, 0, 1]], dtype=torch.bool)
"""Segmentation is missing beside two labels, and beside one."""
PAIRS = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
"""(s, t), in the order of FiLM's rows."""
FORMS: dict[str, Any] = {
    "segmentation_as": "samples",
    "depth_as": "share",
    "normals_as": "positive",
    "mask_invalid": False,
}
"""What enters m in the released form."""


def double(step: Step) -> Step:
    def moved(value: Tensor) -> Tensor:
        return value.detach().double().requires_grad_(value.requires_grad) if value.is_floating_point() else value

    return with_losses(
        attrs.evolve(
            step,
            predictions={name: moved(p) for name, p in step.predictions.items()},
            targets={name: moved(t) for name, t in step.targets.items()},
            features=moved(step.features),  # type: ignore[arg-type]
            deepest=torch.rand(step.features.shape[0], 16, 1, 2, dtype=torch.float64),  # type: ignore[union-attr]
        )
    )


def batch_of(labelled: Tensor) -> Batch:
    return make_batch(TASKS, labelled, size=SIZE)


def step_of(labelled: Tensor = ONE_LABEL, views: int = 1, windows: Tensor | None = None) -> Step:
    torch.manual_seed(1)
    step = double(make_step(TASKS, batch_of(labelled), views=views))
    step.windows = windows
    return step


def mtpsl(norm: Any = "group", labelled: Tensor | None = None, **options: Any) -> MTPSL:
    """A plugin whose FiLM is no longer the identity."""
    torch.manual_seed(0)
    made = MTPSL(**options)
    made.setup("mtpsl", TASKS, StubBackbone(2, norm), labelled)
    for parameter in made.m.film_parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made.double()


def total(made: MTPSL, step: Step) -> Tensor:
    return torch.stack(list(made.compute_regularizer(step).values())).sum()


def gradients(made: MTPSL, step: Step, loss: Tensor) -> dict[str, Tensor]:
    wanted = {**{f"prediction {n}": p for n, p in step.predictions.items()}, **dict(made.m.named_parameters())}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(wanted.items(), found, strict=True)}


def plain_prediction(step: Step, name: str, b: int, view: int = 0) -> Tensor:
    p = step.predictions[name][view, b]
    if name == "segmentation":
        return p.softmax(0)
    return p if name == "depth" else p / p.norm(dim=0, keepdim=True).clamp(min=1e-12)


def plain_label(step: Step, name: str, b: int, view: int = 0) -> tuple[Tensor, Tensor]:
    """A label in label space, and its valid pixels."""
    target = step.targets_of(view)[name][b]
    if name == "segmentation":
        return F.one_hot(target.clamp(min=0), 5).permute(2, 0, 1).double(), (target >= 0)[None]
    return target, target[:1] > 0 if name == "depth" else target.norm(dim=0, keepdim=True) > 0.5


def plain_sample(step: Step, b: int, view: int, draw: int = 0) -> Tensor:
    """Classes drawn with Gumbel noise, one-hot, with the gradient of the softmax; noise is drawn for a whole batch."""
    logits = step.predictions["segmentation"][view]
    numbers = generator_for(0, "step", 0, 0)
    seed = [int(torch.randint(2**62, (), generator=numbers)) for _ in range(draw + 1)][-1]
    uniform = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed))
    soft = (logits[b] - torch.log(-torch.log(uniform[b]))).softmax(0)
    return F.one_hot(soft.argmax(0), 5).permute(2, 0, 1) + soft - soft.detach()


def plain_form(name: str, values: Tensor, depth_as: str, normals_as: str) -> Tensor:
    if name == "depth" and depth_as == "share":
        return values / values.max() if values.max() > 0 else values
    return values / 2 + 0.5 if name == "normals" and normals_as == "positive" else values


def plain_map(
    step: Step,
    name: str,
    b: int,
    known: bool,
    view: int = 0,
    segmentation_as: str = "probabilities",
    depth_as: str = "metres",
    normals_as: str = "unit",
    mask_invalid: bool = True,
    draw: int = 0,
) -> Tensor:
    """ŷ, or y with detached ŷ, or with zeros in label space, at invalid pixels.

    :param draw: which of the samples of ŷ
    """
    sampled = name == "segmentation" and segmentation_as == "samples"
    guess = plain_sample(step, b, view, draw) if sampled else plain_prediction(step, name, b, view)
    guess = plain_form(name, guess, depth_as, normals_as)
    if not known:
        return guess
    label, valid = plain_label(step, name, b, view)
    formed = plain_form(name, torch.where(valid, label, 0.0), depth_as, normals_as)
    return torch.where(valid, formed, guess.detach()) if mask_invalid else formed


def plain_embedding(made: MTPSL, x: Tensor, task: int, pair: int, film: str = "convolution") -> Tensor:
    """m of one map (O, H, W) with one row of FiLM: (C, h, w)."""
    x = made.m.inputs[task](x[None])
    first = 0
    for level in made.m.encoder.levels:
        for layer in level:
            x = layer(x)
            kind = "convolution" if isinstance(layer, torch.nn.Conv2d) else "norm"
            if kind == film and not isinstance(layer, torch.nn.ReLU):
                gamma, beta = (p[pair, first : first + x.shape[1]] for p in (made.m.gamma, made.m.beta))
                x = x * gamma[:, None, None] + beta[:, None, None]
                first += x.shape[1]
        x = F.max_pool2d(x, 2)
    return x[0]


def plain_cosine(a: Tensor, b: Tensor, per_location: bool) -> Tensor:
    a, b = (a.flatten(1).T, b.flatten(1).T) if per_location else (a.reshape(1, -1), b.reshape(1, -1))
    norms = a.norm(dim=1).clamp(min=1e-8) * b.norm(dim=1).clamp(min=1e-8)
    return (1 - (a * b).sum(1) / norms).mean()


def plain_loss(
    made: MTPSL,
    step: Step,
    film: str = "convolution",
    per_location: bool = False,
    shared: bool = True,
    view: int = 0,
    per_pair: bool = False,
    **forms: Any,
) -> Tensor:
    """Eq. 3 and the feature regularizer, a loop over samples and pairs, two passes of m for each.

    :param per_pair: every pair of a prediction has a sample of its own: the n-th label's is the n-th
    """
    labelled = step.labelled
    result = torch.zeros((), dtype=torch.float64)
    for b in range(len(labelled)):
        missing = int((~labelled[b]).sum())
        features = step.deepest.view(len(step.images), len(labelled), 16, 1, 2)[view, b]  # type: ignore[union-attr]
        for pair, (s, t) in enumerate(PAIRS):
            if labelled[b, s] or not labelled[b, t]:
                continue
            draw = int(labelled[b, :t].sum()) if per_pair else 0
            one = plain_embedding(made, plain_map(step, NAMES[s], b, False, view, draw=draw, **forms), s, pair, film)
            two = plain_embedding(made, plain_map(step, NAMES[t], b, True, view, **forms), t, pair, film)
            loss = plain_cosine(one, two, per_location)
            loss = (
                loss + 0.5 * plain_cosine(one, features, per_location) + 0.5 * plain_cosine(two, features, per_location)
            )
            result = result + 2.0 * loss / (missing if shared else 1) / len(labelled)
    return result


def assert_equal(made: MTPSL, step: Step, expected: Tensor) -> None:
    """Loss and every gradient, to 1e-8."""
    found = total(made, step)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    theirs = gradients(made, step, expected)
    for name, gradient in gradients(made, step, found).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    assert any(g.abs().max() > 0 for n, g in theirs.items() if n.startswith("prediction"))
    assert theirs["gamma"].abs().max() > 0


@pytest.mark.parametrize("known", [False, True], ids=["mask unknown", "mask known"])
@pytest.mark.parametrize("labelled", [ONE_LABEL, SOME], ids=["one label", "some"])
def test_batched_passes_equal_the_loop_over_samples_and_pairs(labelled: Tensor, known: bool) -> None:
    step = step_of(labelled)
    made = mtpsl(labelled=labelled if known else None)
    assert_equal(made, step, plain_loss(made, step))


def test_one_label_takes_four_half_network_passes_per_image_in_one_call() -> None:
    step = step_of()
    made = mtpsl(labelled=ONE_LABEL)
    seen: list[int] = []
    for module in made.m.encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    made.compute_regularizer(step)
    assert seen == [3 * 3] + [4 * 3] * 12, "the first convolution sees each map once"


@pytest.mark.parametrize(
    ("tasks", "counts", "expected"),
    [(3, None, 2), (14, None, 49), (14, [1, 1], 13), (7, [1, 6, 7], 6), (7, [3, 4, 0], 12), (3, [3, 0], 1)],
)
def test_places_suffice_for_the_richest_sample(tasks: int, counts: list[int] | None, expected: int) -> None:
    mask = None if counts is None else torch.arange(tasks) < torch.tensor(counts)[:, None]
    assert most_pairs(tasks, mask) == expected


@pytest.mark.parametrize(
    ("tasks", "counts", "expected"), [(3, None, 2), (7, [1, 1], 1), (7, [3, 4], 4), (7, [2, 7], 2), (3, [3, 0], 1)]
)
def test_samples_suffice_for_the_richest_sample_that_lacks_a_label(
    tasks: int, counts: list[int] | None, expected: int
) -> None:
    mask = None if counts is None else torch.arange(tasks) < torch.tensor(counts)[:, None]
    assert most_labels(tasks, mask) == expected


@pytest.mark.parametrize("tasks", [2, 3, 4])
def test_every_pair_has_one_place_and_the_rest_repeat_them(tasks: int) -> None:
    source, target = ordered_pairs(tasks)
    rows = list(itertools.product([False, True], repeat=tasks))
    for one, two in itertools.product(rows, rows):
        labelled = torch.tensor([one, two])
        found = placed(labelled, source, target, 2 * most_pairs(tasks, None))
        wanted = {
            (b, s, t) for b, s, t in itertools.product(range(2), range(tasks), range(tasks))
            if labelled[b, t] and not labelled[b, s]
        }  # fmt: skip
        ends = zip(found.sample.tolist(), source[found.pair].tolist(), target[found.pair].tolist(), strict=True)
        all_places = list(ends)
        used = [place for place, counts in zip(all_places, found.used.tolist(), strict=True) if counts]
        assert sorted(used) == sorted(wanted)
        assert not wanted or set(all_places) == wanted


def test_batch_statistics_see_nothing_but_pairs() -> None:
    """Places left over repeat what is there: samples without any pair leave no trace in the encoder's statistics."""
    labelled = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=torch.bool)
    found = []
    for seed in (0, 1):
        step = step_of(labelled)
        made = mtpsl("batch")
        for layer in made.m.inputs:
            layer[1].eval()  # type: ignore[index]  # these see every sample
        others = make_batch(TASKS, labelled, size=SIZE, seed=seed).targets
        for name in NAMES:
            step.targets[name][[0, 2]] = others[name][[0, 2]].to(step.targets[name].dtype)
        made.compute_regularizer(step)
        found.append([b.clone() for n, b in made.m.encoder.named_buffers() if "running" in n])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert found[0][0].abs().max() > 0


@pytest.mark.parametrize("filled", [False, True])
def test_a_batch_without_any_pair_is_zero_with_zero_gradients(filled: bool) -> None:
    step = step_of(torch.full((3, 3), filled))
    made = mtpsl()
    loss = total(made, step)
    assert loss == 0
    assert all(g.abs().max() == 0 for g in gradients(made, step, loss).values())


@pytest.mark.parametrize("options", [{}, {"variant": "released", "second_view": False}], ids=["paper", "released"])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_only_predictions_of_tasks_without_a_label_are_trained(norm: str, options: dict[str, Any]) -> None:
    """In samples that have another task's label; batch norm reaches no further."""
    step = step_of(SOME)
    made = mtpsl(norm, **options)
    found = gradients(made, step, total(made, step))
    for (b, labels), (k, name) in itertools.product(enumerate(SOME), enumerate(NAMES)):
        trains = found[f"prediction {name}"][0, b].abs().max() > 0
        assert trains == bool(labels.any() and not labels[k]), f"sample {b}, {name}"


def test_features_are_not_trained() -> None:
    step = step_of()
    made = mtpsl()
    step.deepest = step.deepest.clone().requires_grad_()  # type: ignore[union-attr]
    assert torch.autograd.grad(total(made, step), step.deepest, allow_unused=True) == (None,)


def test_other_features_are_pooled_to_the_embeddings_shape() -> None:
    """z at full resolution with fewer channels, and a pyramid, whose last level is taken."""
    step = step_of()
    made = mtpsl(weight=1.0)
    fine = torch.rand(3, 4, *SIZE, dtype=torch.float64)
    pooled = F.avg_pool2d(fine, 32).repeat_interleave(4, 1)
    expected = made.compute_regularizer(attrs.evolve(step, deepest=pooled))["features"]
    for z in (fine, (torch.rand(3, 2, 64, 64), fine)):
        found = made.compute_regularizer(attrs.evolve(step, deepest=None, features=z))["features"]
        torch.testing.assert_close(found, expected)


def test_segnets_own_features_have_the_embeddings_shape() -> None:
    network = SegNet(3, width=2)
    z, deepest = network.with_deepest(torch.rand(2, 3, *SIZE))
    assert z.shape == (2, 2, *SIZE)
    assert deepest.shape[1:] == (16, 1, 2)
    made = mtpsl()
    step = step_of()
    passed = made._embeddings(step, ONE_LABEL, placed(ONE_LABEL, made.source, made.target, 6))
    assert passed[0].shape[1:] == deepest.shape[1:]


def test_without_the_feature_regularizer() -> None:
    step = step_of()
    assert mtpsl(feature_weight=0.0).compute_regularizer(step)["features"] == 0
    distance = mtpsl().compute_regularizer(step)["distance"]
    torch.testing.assert_close(mtpsl(weight=1.0).compute_regularizer(step)["distance"] * 2, distance)


def test_film_has_its_own_parameter_group() -> None:
    made = mtpsl(film_learning_rate=1e-5, film_weight_decay=0.1)
    groups = made.parameter_groups()
    assert [{k: v for k, v in g.items() if k != "params"} for g in groups] == [{"lr": 1e-5, "weight_decay": 0.1}]
    sizes = [p.shape for p in groups[0]["params"]]
    convolutions = sum(m.out_channels for m in made.m.encoder.modules() if isinstance(m, torch.nn.Conv2d))
    assert sizes == [(6, convolutions), (6, convolutions)]


def test_a_pair_is_ordered_and_has_its_own_space() -> None:
    made = mtpsl()
    step = step_of(SOME)
    found = gradients(made, step, total(made, step))["gamma"]
    used = {p for p, (s, t) in enumerate(PAIRS) if any(row[t] and not row[s] for row in SOME)}
    assert {p for p in range(6) if found[p].abs().max() > 0} == used == {0, 4, 5}


class TestSwitches:
    """Each thing that the released code does differently, alone against the loop."""

    def test_film_behind_the_norm(self) -> None:
        step = step_of(SOME)
        made = mtpsl(film="norm")
        assert_equal(made, step, plain_loss(made, step, film="norm"))

    def test_statistics_of_each_map_by_itself(self) -> None:
        """Batch norm in training mode that sees one map at a time."""
        step = step_of()
        made = mtpsl("batch", film="norm", statistics="sample")
        alone = mtpsl("batch", film="norm")
        alone.load_state_dict(made.state_dict(), strict=False)
        found = total(made, step)
        expected = plain_loss(alone, step, film="norm")
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
        assert (total(alone, step) - expected).abs() > 1e-4

    def test_distance_per_location(self) -> None:
        step = step_of(SOME)
        made = mtpsl(per_location=True)
        assert_equal(made, step, plain_loss(made, step, per_location=True))

    def test_sums_over_pairs(self) -> None:
        step = step_of(SOME)
        made = mtpsl(per_unlabelled=False)
        assert_equal(made, step, plain_loss(made, step, shared=False))

    def test_second_view(self) -> None:
        step = step_of(SOME, views=2)
        made = mtpsl(second_view=True)
        assert made.views == 2
        assert_equal(made, step, plain_loss(made, step, view=1))
        assert gradients(made, step, total(made, step))["prediction depth"][0].abs().max() == 0

    def test_second_view_that_shows_a_window(self) -> None:
        windows = draw_windows(2, 4, (1.5,), torch.Generator().manual_seed(3)).double()
        step = step_of(SOME, views=2, windows=windows)
        made = mtpsl(second_view=True)
        assert_equal(made, step, plain_loss(made, step, view=1))
        drawn = made.choose_windows(2, 4, torch.Generator().manual_seed(3))
        assert drawn is not None
        assert set(drawn[..., 0].flatten().tolist()) <= {1.0, torch.tensor(1.2).item(), 1.5}
        for whole in (mtpsl(second_view=True, crops=()), mtpsl()):
            assert whole.choose_windows(2, 4, torch.Generator()) is None

    @pytest.mark.parametrize("switch", FORMS)
    def test_what_enters(self, switch: str) -> None:
        one = {switch: FORMS[switch]}
        step = step_of(SOME)
        made = mtpsl(**one)
        expected = plain_loss(made, step, **one)
        assert_equal(made, step, expected)
        assert (expected - plain_loss(made, step)).abs() > 1e-6, "the switch does nothing"

    def entered(self, step: Step, **options: Any) -> dict[str, Tensor]:
        """Task → maps that enter m."""
        made = mtpsl(**options)
        found = {}
        for name, layer in zip(NAMES, made.m.inputs, strict=True):
            layer.register_forward_pre_hook(lambda module, inputs, n=name: found.update({n: inputs[0].detach()}))
        made.compute_regularizer(step)
        return found

    def test_the_papers_forms(self) -> None:
        step = step_of(SOME)
        found = self.entered(step_of(SOME))
        for (k, name), b in itertools.product(enumerate(NAMES), range(4)):
            expected = plain_map(step, name, b, bool(SOME[b, k]))
            torch.testing.assert_close(found[name][b], expected)

    def test_hard_segmentation(self) -> None:
        step = step_of(SOME)
        found = self.entered(step_of(SOME), segmentation_as="samples")
        maps = found["segmentation"]
        torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]))
        torch.testing.assert_close(maps.amax(1), torch.ones_like(maps[:, 0]))
        label, valid = plain_label(step, "segmentation", 0)
        assert torch.equal(torch.where(valid, maps[0], 0), torch.where(valid, label, 0))
        plain = self.entered(step_of(SOME))
        assert torch.equal(found["depth"], plain["depth"])

    def test_depth_by_its_maximum(self) -> None:
        step = step_of(SOME)
        found = self.entered(step_of(SOME), depth_as="share")["depth"]
        label, valid = plain_label(step, "depth", 0)
        assert torch.equal(torch.where(valid, found[0], 0), torch.where(valid, label / label.max(), 0))
        guess = step.predictions["depth"][0, 1].detach()
        torch.testing.assert_close(found[1], guess / guess.max())

    def test_depth_without_a_positive_value_stays(self) -> None:
        step = step_of(SOME)
        step.predictions["depth"].data[0, 1] = -2.0
        assert (self.entered(step, depth_as="share")["depth"][1] == -2).all()

    def test_shifted_normals(self) -> None:
        plain = self.entered(step_of(SOME))
        found = self.entered(step_of(SOME), normals_as="positive")
        torch.testing.assert_close(found["normals"], (plain["normals"] + 1) / 2)
        assert torch.equal(found["segmentation"], plain["segmentation"])

    def test_no_validity_mask(self) -> None:
        step = step_of(SOME)
        found = self.entered(step_of(SOME), mask_invalid=False)
        for (k, name), b in itertools.product(enumerate(NAMES), range(4)):
            if SOME[b, k]:
                label, valid = plain_label(step, name, b)
                torch.testing.assert_close(found[name][b], torch.where(valid, label, 0.0))
                assert not valid.all()

    def test_the_variant_is_all_of_them(self) -> None:
        released = MTPSL(variant="released")
        switches = {
            "second_view": True,
            "segmentation_as": "samples",
            "sample_for": "pair",
            "depth_as": "share",
            "normals_as": "positive",
            "mask_invalid": False,
            "per_unlabelled": False,
            "per_location": True,
            "film": "norm",
            "statistics": "sample",
        }
        assert {name: released.says(name) for name in switches} == switches
        assert all(MTPSL().says(name) != value for name, value in switches.items())
        assert MTPSL(variant="released", second_view=False).views == 1

    @pytest.mark.parametrize("moved", [False, True], ids=["whole image", "window"])
    def test_the_variant_equals_the_loop(self, moved: bool) -> None:
        """Instance norm passes maps one at a time here and there; that it is batch norm of one map is shown above."""
        windows = draw_windows(2, 4, (1.5,), torch.Generator().manual_seed(3)).double() if moved else None
        step = step_of(SOME, views=2, windows=windows)
        made = mtpsl("batch", variant="released")
        released = {"film": "norm", "per_location": True, "shared": False, "view": 1, **FORMS}
        assert_equal(made, step, plain_loss(made, step, **released))

    @pytest.mark.parametrize("known", [False, True], ids=["mask unknown", "mask known"])
    def test_every_pair_of_a_prediction_has_a_sample_of_its_own(self, known: bool) -> None:
        """Images with two labels, of which the released code draws the classes once for each."""
        step = step_of(TWO_LABELS)
        made = mtpsl(segmentation_as="samples", sample_for="pair", labelled=TWO_LABELS if known else None)
        assert_equal(made, step, plain_loss(made, step, segmentation_as="samples", per_pair=True))
        once = mtpsl(segmentation_as="samples", labelled=TWO_LABELS)
        again = step_of(TWO_LABELS)
        assert_equal(once, again, plain_loss(once, again, segmentation_as="samples"))
        assert (total(made, step_of(TWO_LABELS)) - total(once, step_of(TWO_LABELS))).abs() > 1e-6

    def test_the_variant_equals_the_loop_with_several_labels_too(self) -> None:
        step = step_of(TWO_LABELS, views=2)
        made = mtpsl("batch", variant="released", labelled=TWO_LABELS)
        released = {"film": "norm", "per_location": True, "shared": False, "view": 1, "per_pair": True, **FORMS}
        assert_equal(made, step, plain_loss(made, step, **released))

    def test_one_label_per_image_needs_one_sample(self) -> None:
        """The second one would cost an input layer's pass for nothing."""
        assert mtpsl(variant="released", labelled=ONE_LABEL).counts == [1, 1, 1]
        assert mtpsl(variant="released", labelled=TWO_LABELS).counts == [2, 1, 1]
        assert mtpsl(variant="released").counts == [2, 1, 1]
        assert mtpsl(labelled=TWO_LABELS).counts == [1, 1, 1]
        assert mtpsl(variant="released", sample_for="task").counts == [1, 1, 1]

    def test_film_that_the_norm_would_take_away_is_refused(self) -> None:
        with pytest.raises(ValueError, match='use film = "norm"'):
            MTPSL(statistics="sample")
        with pytest.raises(ValueError, match='use film = "norm"'):
            MTPSL(variant="released", film="convolution")


def test_a_hard_sample_is_drawn_with_the_softmaxs_shares_and_has_its_gradient() -> None:
    logits = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 100, 100).clone().requires_grad_()
    sample = _hard_sample(logits, torch.Generator().manual_seed(0))
    assert (sample[:, 1].mean() - torch.tensor(1.0).sigmoid()).abs() < 0.02
    again = _hard_sample(logits, torch.Generator().manual_seed(0))
    assert torch.equal(sample, again)
    weight = torch.randn(sample.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((weight * sample).sum(), logits)[0]
    torch.testing.assert_close(found.sum(1), torch.zeros(1, 100, 100), atol=1e-5, rtol=0)
    assert found.abs().max() > 1e-2


def test_noise_is_drawn_where_the_logits_are_from_one_number_of_the_host() -> None:
    one, other = (torch.Generator().manual_seed(0) for _ in range(2))
    logits = torch.zeros(1, 2, 30, 30)
    first = _hard_sample(logits, one)
    second = _hard_sample(logits, one)
    assert not torch.equal(first, second)
    for _ in range(2):
        torch.randint(2**62, (), generator=other)
    assert torch.equal(one.get_state(), other.get_state()), "a number for each map, not one for each pixel"
    assert _hard_sample(logits.to("meta"), one).is_meta


def test_tasks_per_image_are_refused_by_name_unless_left_out() -> None:
    mixed = make_tasks("segmentation", "scene", "depth")
    with pytest.raises(MtlError, match=r"'scene' has one value per image.*tasks = \['segmentation', 'depth'\]"):
        MTPSL().setup("mtpsl", mixed, StubBackbone(2), None)
    MTPSL(tasks=("segmentation", "depth")).setup("mtpsl", mixed, StubBackbone(2), None)
    with pytest.raises(MtlError, match='did you mean "depth"'):
        MTPSL(tasks=("dept", "segmentation")).setup("mtpsl", mixed, StubBackbone(2), None)
    with pytest.raises(MtlError, match="pairs need two tasks"):
        MTPSL(tasks=("depth",)).setup("mtpsl", mixed, StubBackbone(2), None)


def test_places_are_counted_for_the_paired_tasks_alone() -> None:
    mixed = make_tasks("scene", "segmentation", "depth", "normals", "edges")
    labelled = torch.tensor([[1, 1, 0, 0, 0]], dtype=torch.bool)
    made = MTPSL(tasks=("segmentation", "depth", "normals", "edges"))
    made.setup("mtpsl", mixed, StubBackbone(2), labelled)
    assert made.per_sample == 3


def test_half_precision_keeps_every_gradient() -> None:
    step = step_of(SOME)
    made = mtpsl().float()
    single = with_losses(attrs.evolve(
        step,
        predictions={n: p.detach().float().requires_grad_() for n, p in step.predictions.items()},
        targets={n: t.float() if t.is_floating_point() else t for n, t in step.targets.items()},
    ))  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(made, single)
    assert loss.dtype == torch.float32
    for name, gradient in gradients(made, single, loss).items():
        assert gradient.isfinite().all(), name


def test_distance_and_spread_are_logged() -> None:
    step = step_of(SOME)
    made = mtpsl()
    terms = made.compute_regularizer(step)
    assert set(step.logged) == {"latent_distance", "latent_cosine", "pairs"}
    assert step.logged["pairs"] == 4 / 4
    one = step_of()
    term = made.compute_regularizer(one)["distance"]
    torch.testing.assert_close(one.logged["latent_distance"] * 2.0, term.detach())
    assert terms["distance"] > 0


@pytest.mark.parametrize("known", [False, True], ids=["places left over", "none left over"])
def test_the_spread_is_that_of_labels_of_different_samples(known: bool) -> None:
    labelled = ONE_LABEL if known else SOME
    step = step_of(labelled)
    made = mtpsl(labelled=labelled if known else None)
    made.compute_regularizer(step)
    found = [
        (b, plain_embedding(made, plain_map(step, NAMES[t], b, True), t, pair).detach())
        for b, (pair, (s, t)) in itertools.product(range(len(labelled)), enumerate(PAIRS))
        if labelled[b, t] and not labelled[b, s]
    ]
    cosines = [1 - plain_cosine(x, y, False) for a, x in found for b, y in found if a != b]
    torch.testing.assert_close(step.logged["latent_cosine"], torch.stack(cosines).mean(), rtol=1e-8, atol=1e-10)
