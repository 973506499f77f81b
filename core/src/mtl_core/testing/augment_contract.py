"""Contract of what changes the photometry of batches."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl_core.hooks.relay import Hooks
from mtl_core.seeds import generator_for
from mtl_core.testing.contract import ODD, REPEATS, PluginContract, Untouched, attempt, on_meta_device, same, under
from mtl_core.testing.transform_contract import DRAWS, described


class AugmentContract(PluginContract):
    """``augment``: the photometry of whole batches on the training device."""

    hook = "augment"
    random: ClassVar[bool] = True
    """Whether different generators give different images."""

    def augment(self, plugin: Any, images: Tensor, seed: int = 0, hooks: Hooks | None = None) -> Tensor:
        hooks = self.prepare(plugin) if hooks is None else hooks
        return hooks.augment(images, generator_for(seed, "contract"))

    def images(self, count: int = 4) -> Tensor:
        return torch.rand(count, 3, *self.image_size, generator=generator_for(0, "images"))

    def test_keeps_shape_and_type(self, plugin: Any) -> None:
        for count in (1, 4):
            for seed in range(DRAWS):
                images = self.images(count)
                found = described({"images": self.augment(plugin, images, seed)})
                assert found == described({"images": images}), f"images became {found['images']}"

    def test_images_stay_within_0_and_1(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            found = self.augment(plugin, self.images(), seed)
            assert ((found >= 0) & (found <= 1)).all(), f"seed {seed}: values {found.min()} to {found.max()}"

    def test_takes_flat_images(self, plugin: Any) -> None:
        """Black, grey and white images have no contrast to divide by."""
        for value in (0.0, 0.5, 1.0):
            for seed in range(DRAWS):
                found = self.augment(plugin, torch.full_like(self.images(), value), seed)
                assert found.isfinite().all(), f"images of {value}, seed {seed}: not finite"

    def test_draws_from_its_generator_only(self, plugin: Any) -> None:
        first, *others = (under(s, lambda: self.augment(plugin, self.images(), 3)) for s in range(DRAWS))
        assert all(same(first, other) for other in others), "calls with generators of one seed differ"
        if self.random:
            found = [self.augment(plugin, self.images(), seed) for seed in range(DRAWS)]
            assert any(not same(found[0], images) for images in found[1:]), "the generator's seed changes nothing"

    def test_remembers_nothing(self, plugin: Any) -> None:
        """A resumed run calls it in the middle: what it does depends on its generator and nothing else."""
        hooks = self.prepare(plugin)
        first = self.augment(plugin, self.images(), 3, hooks)
        for k in range(2, REPEATS):
            found = self.augment(plugin, self.images(), 3, hooks)
            assert same(first, found), f"call {k} with a generator of the same seed differs"
            self.augment(plugin, self.images(), 10 + k, hooks)

    def test_keeps_things_where_they_are(self, plugin: Any) -> None:
        """Labels stay as they are: what moves, turns or mirrors images belongs into ``transform_sample``."""
        height, width = self.image_size
        spot = torch.zeros(height, width, dtype=torch.bool)
        spot[height // 8 : 3 * height // 8, width // 8 : 3 * width // 8] = True
        for seed in range(DRAWS):
            images = torch.where(spot, 0.9, 0.4).expand(2, 3, -1, -1).contiguous()
            found = self.augment(plugin, images, seed).mean(1)
            away = (found - found.flatten(1).median(1).values[:, None, None]).abs()
            if (away.amax((1, 2)) > 0.1).all():
                inside = away[:, spot].mean()
                outside = away[:, ~spot].mean()
                assert inside > outside, f"seed {seed}: what was bright lies elsewhere now; labels would stay behind"

    def test_takes_odd_sizes(self, plugin: Any) -> None:
        images = torch.rand(2, 3, *ODD, generator=generator_for(0, "images"))
        for seed in range(DRAWS):
            found = attempt(f"images of {ODD[0]} × {ODD[1]} pixels", lambda: self.augment(plugin, images, seed))  # noqa: B023
            assert found is not None, "refuses images by their size; photometry has none"
            assert found.shape == images.shape, f"images of {tuple(images.shape)} became {tuple(found.shape)}"

    def test_makes_no_gradient(self, plugin: Any) -> None:
        found = self.augment(plugin, self.images())
        assert not found.requires_grad, "keeps the graph alive: augmented images have a gradient; use torch.no_grad()"

    def test_leaves_its_input_as_it_was(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            images = self.images()
            kept = Untouched({"images": images})
            self.augment(plugin, images, seed)
            kept.check()

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a draw on the device raises there."""
        hooks = self.on_meta(plugin)
        images = self.images().to("meta")
        for seed in range(4 * DRAWS):
            found = on_meta_device(lambda: self.augment(plugin, images, seed, hooks))  # noqa: B023
            assert found.device.type == "meta", f"images came back on {found.device}"
