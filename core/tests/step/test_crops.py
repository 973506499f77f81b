"""Views that show windows of an image: what is where, and what labels become."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import collate
from mtl_core.errors import ContractError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.step.crops import draw_windows, image_views, label_views
from mtl_core.step.step import Step
from mtl_core.testing import make_batch, make_step, make_tasks
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.session import prepare
from mtl_core.training.step import TrainingStep

TASKS = make_tasks("segmentation", "depth", "normals", "shading", "scene")
WINDOWS = torch.tensor([[1.0, 0.3, -0.4], [1.5, 1.0, -1.0], [2.0, 0.25, 0.5], [1.2, -0.7, 0.1]])
SIZE = (9, 13)


def source(row: Tensor, y: int, x: int) -> tuple[float, float]:
    """Where in the image a view's pixel comes from, in pixels: its window's middle and its place in the window."""
    scale, across, down = (float(v) for v in row)
    places = []
    for at, extent, place in ((y, SIZE[0], down), (x, SIZE[1], across)):
        half = (extent - 1) / 2
        middle = half + place * (1 - 1 / scale) * half
        places.append(middle + (at - half) / scale)
    return places[0], places[1]


def between(map_: Tensor, y: float, x: float) -> Tensor:
    """Bilinear, one pixel (C, H, W) → (C,)."""
    y = min(max(y, 0.0), SIZE[0] - 1)
    x = min(max(x, 0.0), SIZE[1] - 1)
    top = min(int(y), SIZE[0] - 2)
    left = min(int(x), SIZE[1] - 2)
    a = y - top
    b = x - left
    above = (1 - b) * map_[:, top, left] + b * map_[:, top, left + 1]
    below = (1 - b) * map_[:, top + 1, left] + b * map_[:, top + 1, left + 1]
    return (1 - a) * above + a * below


def test_a_views_image_is_its_window_enlarged() -> None:
    images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0)).double()
    views = image_views(images, 2, WINDOWS[None].double())
    assert torch.equal(views[0], images)
    for b in range(4):
        expected = torch.stack(
            [
                torch.stack([between(images[b], *source(WINDOWS[b].double(), y, x)) for x in range(SIZE[1])], -1)
                for y in range(SIZE[0])
            ],
            -2,
        )
        torch.testing.assert_close(views[1, b], expected, rtol=1e-6, atol=1e-6)


def test_labels_move_with_the_image_and_follow_their_physics() -> None:
    targets = make_batch(TASKS, samples=4, size=SIZE).targets
    found = label_views(TASKS, targets, WINDOWS)
    assert torch.equal(found["scene"], targets["scene"])
    checked = 0
    for b, row in enumerate(WINDOWS):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                at = source(row.double(), y, x)
                if any(abs(v - math.floor(v) - 0.5) < 1e-3 for v in at):
                    continue  # halfway between two pixels
                i = round(at[0])
                j = round(at[1])
                assert found["segmentation"][b, y, x] == targets["segmentation"][b, i, j]
                torch.testing.assert_close(found["depth"][b, :, y, x], targets["depth"][b, :, i, j] / row[0])
                torch.testing.assert_close(found["shading"][b, :, y, x], targets["shading"][b, :, i, j], equal_nan=True)
                checked += 1
    assert checked > 300


def test_normals_are_means_of_valid_pixels_and_unit_vectors() -> None:
    target = make_batch(TASKS, samples=4, size=SIZE).targets["normals"]
    found = label_views(TASKS, {**make_batch(TASKS, samples=4, size=SIZE).targets}, WINDOWS)["normals"]
    valid = (target.norm(dim=1, keepdim=True) > 0.5).float()
    for b, row in enumerate(WINDOWS):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                at = source(row.double(), y, x)
                share = float(between(valid[b], *at))
                if abs(share - 0.5) < 1e-3:
                    continue
                expected = F.normalize(between(target[b] * valid[b], *at), dim=0) if share > 0.5 else torch.zeros(3)
                torch.testing.assert_close(found[b, :, y, x], expected, rtol=1e-3, atol=1e-4)


def test_withheld_labels_stay_blank() -> None:
    none = torch.zeros(4, 5, dtype=torch.bool)
    targets = make_batch(TASKS, none, size=SIZE).targets
    for name, label in label_views(TASKS, targets, WINDOWS).items():
        assert not TASKS[name].valid(label).any(), name


def test_windows_are_drawn_from_the_scales_and_everywhere() -> None:
    windows = draw_windows(3, 500, (1.0, 1.5), torch.Generator().manual_seed(0))
    assert windows.shape == (2, 500, 3)
    assert set(windows[..., 0].unique().tolist()) == {1.0, 1.5}
    assert windows[..., 1:].amin((0, 1)).max() < -0.98
    assert windows[..., 1:].amax((0, 1)).min() > 0.98
    assert not torch.equal(windows[0], windows[1])


@plugin
class Look:
    """Two views, the second of them the lower right half."""

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def choose_windows(self, views: int, samples: int) -> Tensor:
        return torch.tensor([2.0, 1.0, 1.0]).expand(views - 1, samples, 3)

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        self.step = step
        return {"nothing": step.images.sum() * 0}


@plugin
class Compare:
    """Two views, pixel by pixel."""

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {}


def test_a_step_shows_the_windows_to_the_network_and_their_labels_to_regularizers() -> None:
    session = prepare(Experiment(name="t", plugins=[ToyData(), ToyLabels(), ToyNetwork(), Look()]))
    data = BlankedDataset(session.dataset, torch.ones(len(session.dataset), 3, dtype=torch.bool))
    batch = collate([data[i] for i in range(3)])
    TrainingStep(session.network, session.hooks, views=2)(batch, 0)
    step = session.hooks.plugins["look"].step
    torch.testing.assert_close(step.images[1][..., -1, -1], batch.images[..., -1, -1])
    middle = batch.images[..., 15:17, 15:17].mean((-2, -1))  # the window begins half a pixel behind the middle
    torch.testing.assert_close(step.images[1][..., 0, 0], middle, rtol=1e-4, atol=1e-4)
    assert step.targets_of(0) is step.targets
    seen = step.targets_of(1)["depth"]
    torch.testing.assert_close(seen[..., -1, -1], batch.targets["depth"][..., -1, -1] / 2)
    predicted = session.network(step.images[1])["depth"]
    torch.testing.assert_close(step.predictions["depth"][1], predicted, rtol=1e-4, atol=1e-5)


def test_without_windows_every_view_has_the_same_labels_and_whole_images() -> None:
    step = make_step(TASKS, views=3)
    assert step.targets_of(2) is step.targets
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(image_views(images, 3, None), images.expand(3, 2, 3, 8, 8))


def test_a_plugin_that_compares_views_is_refused_beside_one_that_moves_them() -> None:
    hooks = Hooks({"look": Look(), "compare": Compare()}, required=())
    with pytest.raises(ContractError, match=r'"look" shows other parts.*"compare" asks for views'):
        hooks.choose_windows(2, 4, torch.Generator())
    assert Hooks({"compare": Compare()}, required=()).choose_windows(2, 4, torch.Generator()) is None


def test_windows_of_another_shape_are_refused() -> None:
    @plugin
    class Wrong:
        """Answers for all views."""

        @hookimpl
        def choose_windows(self, views: int, samples: int) -> Tensor:
            return torch.ones(views, samples, 3)

    with pytest.raises(ContractError, match=r"returned \(2, 4, 3\), expected \(1, 4, 3\)"):
        Hooks({"wrong": Wrong()}, required=()).choose_windows(2, 4, torch.Generator())


@plugin
class Otherwise:
    """Has an option called views, for another purpose."""

    views: tuple[str, ...] = ("front", "left")


def test_an_option_called_views_is_the_plugins_own() -> None:
    assert Hooks({"other": Otherwise(), "compare": Compare()}, required=()).count_views() == 2
    assert Hooks({"other": Otherwise()}, required=()).count_views() == 1
    session = prepare(Experiment(name="t", plugins=[ToyData(), ToyLabels(), ToyNetwork(), Otherwise(), Look()]))
    assert session.hooks.choose_windows(2, 4, torch.Generator()) is not None
