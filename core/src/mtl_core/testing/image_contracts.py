"""Contracts of what changes images: geometry of samples, photometry of batches."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl_core.data import Sample
from mtl_core.hooks import Hooks
from mtl_core.seeds import generator_for
from mtl_core.tasks import Normals, Segmentation, Tasks
from mtl_core.testing.contract import PluginContract, Untouched, same, under
from mtl_core.testing.factories import make_sample

DRAWS = 8
"""How many seeds a check tries."""


class TransformContract(PluginContract):
    """``transform_sample``: image and labels of one sample change together."""

    hook = "transform_sample"
    random: ClassVar[bool] = True
    """Whether different generators give different samples."""
    agreement: ClassVar[float] = 0.95
    """Share of pixels at which a label must still agree with the image that it was made from."""

    def transform(self, plugin: Any, sample: Sample, seed: int = 0) -> Sample:
        return self.prepare(plugin).transform_sample(sample, generator_for(seed, "contract"))

    def sample(self, seed: int = 0) -> Sample:
        return make_sample(self.tasks, self.image_size, seed)

    def test_keeps_shapes_and_types(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            before = tensors(self.sample(seed))
            after = tensors(self.transform(plugin, self.sample(seed), seed))
            assert described(after) == described(before)

    def test_takes_images_in_bytes(self, plugin: Any) -> None:
        sample = self.sample()
        sample.image = (sample.image * 255).to(torch.uint8)
        found = self.transform(plugin, sample).image
        assert found.dtype == torch.uint8, f"an image in bytes became {found.dtype}"

    def test_image_stays_within_its_range(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            image = self.transform(plugin, self.sample(seed), seed).image
            assert ((image >= 0) & (image <= 1)).all(), f"values {image.min()} to {image.max()}, expected 0 to 1"

    def test_draws_from_its_generator_only(self, plugin: Any) -> None:
        a, b = (under(s, lambda: tensors(self.transform(plugin, self.sample(), 3))) for s in (1, 2))
        assert all(same(a[name], b[name]) for name in a), "two calls with generators of one seed differ"
        if self.random:
            images = [self.transform(plugin, self.sample(), seed).image for seed in range(DRAWS)]
            assert any(not same(images[0], image) for image in images[1:]), "the generator's seed changes nothing"

    def test_leaves_its_input_as_it_was(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            sample = self.sample(seed)
            kept = Untouched(tensors(sample))
            self.transform(plugin, sample, seed)
            kept.check()

    def test_withheld_labels_stay_withheld(self, plugin: Any) -> None:
        tasks, sample = self.tasks, self.sample()
        sample.targets = {name: tasks[name].blank(target) for name, target in sample.targets.items()}
        for seed in range(DRAWS):
            for name, target in self.transform(plugin, sample, seed).targets.items():
                assert not tasks[name].valid(target[None]).any(), f"{name}: a blank label has valid pixels now"

    def test_labels_move_with_the_image(self, plugin: Any) -> None:
        """Classes are painted into the image as two greys; afterwards they must still lie on them."""
        tasks = Tasks([Segmentation(name="segmentation", channels=2)])
        hooks, classes = self.prepare(plugin, tasks), blob(self.image_size)
        image = (0.25 + 0.5 * classes).expand(3, -1, -1).contiguous()
        for seed in range(DRAWS):
            after = hooks.transform_sample(
                Sample(image.clone(), {"segmentation": classes.clone()}), generator_for(seed, "contract")
            )
            label = after.targets["segmentation"]
            agrees = (after.image.mean(0) > 0.5).long() == label
            share = agrees[label >= 0].float().mean().item() if (label >= 0).any() else 1.0
            assert share >= self.agreement, f"seed {seed}: classes agree with the image at {share:.0%} of the pixels"

    def test_invents_no_class(self, plugin: Any) -> None:
        for task in self.tasks:
            if isinstance(task, Segmentation):
                for seed in range(DRAWS):
                    sample = self.sample(seed)
                    target, last = sample.targets[task.name], task.channels - 1
                    ends = torch.where(sample.image[0] > 0.5, last, 0)
                    sample.targets[task.name] = torch.where(target < 0, target, ends)
                    found = set(self.transform(plugin, sample, seed).targets[task.name].unique().tolist())
                    assert found <= {-1, 0, last}, f"classes 0 and {last} became {sorted(found)}; resample by nearest"

    def test_normals_stay_of_unit_length(self, plugin: Any) -> None:
        for task in self.tasks:
            if isinstance(task, Normals):
                for seed in range(DRAWS):
                    target = self.transform(plugin, self.sample(seed), seed).targets[task.name][None]
                    lengths = target.norm(dim=1, keepdim=True)[task.valid(target)]
                    assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3), "normals lost their length"

    def test_travels_to_a_worker(self, plugin: Any) -> None:
        copy = self.prepare(plugin).plugins["plugin"]
        assert not isinstance(copy, nn.Module), "an nn.Module is not sent to workers; it cannot learn anyway"
        there = pickle.loads(pickle.dumps(copy))  # noqa: S301 - made on the same line
        found = there.transform_sample(self.sample(), generator_for(0, "contract")) or self.sample()
        here = self.transform(plugin, self.sample())
        assert same(found.image, here.image), "a pickled copy transforms differently"


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
                found = self.augment(plugin, self.images(count), seed)
                assert described({"images": found}) == described({"images": self.images(count)})

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
        a, b = (under(s, lambda: self.augment(plugin, self.images(), 3)) for s in (1, 2))
        assert same(a, b), "two calls with generators of one seed differ"
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


def tensors(sample: Sample) -> dict[str, Tensor]:
    return {"image": sample.image, **sample.targets}


def described(parts: dict[str, Tensor]) -> dict[str, str]:
    return {name: f"{part.dtype} {tuple(part.shape)}" for name, part in parts.items()}


def blob(size: tuple[int, int]) -> Tensor:
    """Two classes (H, W): a rectangle left of and above the middle, which no mirroring or turning leaves in place."""
    classes = torch.zeros(size, dtype=torch.long)
    classes[size[0] // 8 : size[0] // 2, size[1] // 8 : size[1] // 3] = 1
    return classes
