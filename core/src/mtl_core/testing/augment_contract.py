"""Contract of what changes the photometry of batches."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl_core.hooks.relay import Hooks
from mtl_core.seeds import generator_for
from mtl_core.testing.contract import PluginContract, Untouched, same, under
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
        first, second = (self.augment(plugin, self.images(), 3, hooks) for _ in range(2))
        assert same(first, second), "a second call with a generator of the same seed differs"

    def test_leaves_its_input_as_it_was(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            images = self.images()
            kept = Untouched({"images": images})
            self.augment(plugin, images, seed)
            kept.check()

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a draw on the device raises there."""
        for seed in range(DRAWS):
            found = self.augment(plugin, self.images().to("meta"), seed, self.on_meta(plugin))
            assert found.device.type == "meta", f"images came back on {found.device}"
