"""Contract of what changes the geometry of samples.

Shape letters: H and W image size.
"""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl_core.data.sample import Sample
from mtl_core.seeds import generator_for
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.tasks import Tasks
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
            assert described(after) == described(before), f"{described(before)} became {described(after)}"

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
        first, *others = (under(s, lambda: tensors(self.transform(plugin, self.sample(), 3))) for s in range(DRAWS))
        for other in others:
            assert all(same(first[n], other[n]) for n in first), "calls with generators of one seed differ"
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
        tasks = self.tasks
        sample = self.sample()
        sample.targets = {name: tasks[name].blank(target) for name, target in sample.targets.items()}
        for seed in range(DRAWS):
            for name, target in self.transform(plugin, sample, seed).targets.items():
                assert not tasks[name].valid(target[None]).any(), f"{name}: a blank label has valid pixels now"

    def test_labels_move_with_the_image(self, plugin: Any) -> None:
        """Classes are painted into the image as two greys; afterwards they must still lie on them."""
        tasks = Tasks([Segmentation(name="segmentation", channels=2)])
        hooks = self.prepare(plugin, tasks)
        classes = blob(self.image_size)
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
            if task.dense and task.label_dtype == torch.long:
                for seed in range(DRAWS):
                    sample = self.sample(seed)
                    target = sample.targets[task.name]
                    last = task.channels - 1
                    ends = torch.where(sample.image[0] > 0.5, last, 0)
                    sample.targets[task.name] = torch.where(target < 0, target, ends)
                    found = set(self.transform(plugin, sample, seed).targets[task.name].flatten().tolist())
                    assert found <= {-1, 0, last}, f"classes 0 and {last} became {sorted(found)}; resample by nearest"

    def test_labels_stay_as_their_tasks_define_them(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            for name, target in self.transform(plugin, self.sample(seed), seed).targets.items():
                problems = self.tasks[name].problems(target, self.image_size)
                assert not problems, f"{name}: {problems[0]}"

    def test_travels_to_a_worker(self, plugin: Any) -> None:
        copy = self.prepare(plugin).plugins["plugin"]
        assert not isinstance(copy, nn.Module), "an nn.Module is not sent to workers; it cannot learn anyway"
        there = pickle.loads(pickle.dumps(copy))
        found = there.transform_sample(self.sample(), generator_for(0, "contract")) or self.sample()
        here = self.transform(plugin, self.sample())
        assert same(found.image, here.image), "a pickled copy transforms differently"


def tensors(sample: Sample) -> dict[str, Tensor]:
    return {"image": sample.image, **sample.targets}


def described(parts: dict[str, Tensor]) -> dict[str, str]:
    return {name: f"{part.dtype} {tuple(part.shape)}" for name, part in parts.items()}


def blob(size: tuple[int, int]) -> Tensor:
    """Two classes (H, W): a large rectangle off the middle, which mirroring, turning or zooming moves visibly."""
    classes = torch.zeros(size, dtype=torch.long)
    classes[size[0] // 8 : 3 * size[0] // 4, size[1] // 8 : 5 * size[1] // 8] = 1
    return classes
