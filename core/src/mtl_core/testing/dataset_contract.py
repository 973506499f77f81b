"""Contract of data sets.

Shape letters: N samples, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

import hashlib
import pickle
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import MultiTaskDataset, Sample, collate, read_sample
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.contract import PluginContract, same, under
from mtl_core.testing.label_mask_contract import check_mask
from mtl_core.testing.transform_contract import tensors


class DatasetContract(PluginContract):
    """``build_dataset``: tasks, samples, and which labels there are at all."""

    hook = "build_dataset"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    """Splits that the tested plugin has."""
    looked_at: ClassVar[int] = 12
    """How many samples of a split a check reads: the first ones, and the last."""
    compared: ClassVar[int] = 64
    """How many samples of a split are compared with those of the others."""

    def open(self, plugin: Any, split: str = "train") -> MultiTaskDataset:
        return self.prepare(plugin).build_dataset(split)

    def test_names_its_splits(self, plugin: Any) -> None:
        """What ``name_splits`` does not name is never used: validation would take training data instead of ``val``."""
        named = self.prepare(plugin).splits
        unnamed = [split for split in self.splits if split not in named]
        assert not unnamed, f"the hook name_splits does not name {unnamed}; it gives {list(named)}"

    def samples(self, plugin: Any) -> list[tuple[Tasks, Sample]]:
        """The first samples of every split."""
        found: list[tuple[Tasks, Sample]] = []
        for split in self.splits:
            data = self.open(plugin, split)
            found += [(data.tasks, data[i]) for i in self.chosen(data)]
        return found

    def chosen(self, data: MultiTaskDataset) -> list[int]:
        """Positions that a check reads: the first half next to each other, the others spread, the last among them."""
        size = len(data)
        half = self.looked_at // 2
        spread = [round(k * (size - 1) / half) for k in range(1, half + 1)]
        return sorted({*range(min(half, size)), *spread})

    def test_is_a_data_set(self, plugin: Any) -> None:
        for split in self.splits:
            data = self.open(plugin, split)
            assert isinstance(data, MultiTaskDataset), f"{split}: needs tasks, labelled, names, __len__, __getitem__"
            assert isinstance(data.tasks, Tasks), f"{split}: tasks is a {type(data.tasks).__name__}"
            assert len(data.tasks) > 0, f"{split}: no task"
            assert len(data) > 0, f"{split}: no sample"

    def test_splits_have_the_same_tasks(self, plugin: Any) -> None:
        found = {split: list(self.open(plugin, split).tasks) for split in self.splits}
        assert all(tasks == found[self.splits[0]] for tasks in found.values()), f"tasks by split: {found}"

    def test_splits_differ(self, plugin: Any) -> None:
        images = [self.open(plugin, split)[0].image for split in self.splits]
        for k, split in enumerate(self.splits[1:], 1):
            assert not same(images[0], images[k]), f"{self.splits[0]} and {split} begin with the same image"

    def test_splits_do_not_overlap(self, plugin: Any) -> None:
        seen: dict[bytes, str] = {}
        for split in self.splits:
            data = self.open(plugin, split)
            for i in range(min(self.compared, len(data))):
                image = fingerprint(data[i].image)
                where = f"{split}[{i}]"
                other = seen.setdefault(image, where)
                assert other.startswith(f"{split}["), f"{where} is the image of {other}: the splits overlap"

    def test_samples_differ(self, plugin: Any) -> None:
        for split in self.splits:
            data = self.open(plugin, split)
            found = {fingerprint(data[i].image) for i in self.chosen(data)}
            assert len(found) > 1 or len(data) == 1, f"{split}: every sample has the same image"

    def test_samples_have_one_size(self, plugin: Any) -> None:
        """They are stacked to batches, whichever of them meet."""
        for split in self.splits:
            data = self.open(plugin, split)
            first = size_of(data[0])
            for i in self.chosen(data):
                found = size_of(data[i])
                assert found == first, (
                    f"{split}[{i}]: {found[0]} × {found[1]} pixels, {split}[0]: {first[0]} × {first[1]}"
                )

    def test_samples_have_no_gradient(self, plugin: Any) -> None:
        for _, sample in self.samples(plugin):
            learning = [name for name, part in tensors(sample).items() if part.requires_grad]
            assert not learning, f"{learning} require a gradient; data do not: use .detach()"

    def test_every_sample_can_be_read(self, plugin: Any) -> None:
        for split in self.splits:
            data = self.open(plugin, split)
            for i in self.chosen(data):
                try:
                    data[i]
                except Exception as error:
                    raise AssertionError(
                        f"{split}[{i}] of {len(data)} samples cannot be read: {type(error).__name__}: {error}"
                    ) from error

    def test_leaves_the_global_generators_alone(self, plugin: Any) -> None:
        """A data set that seeds or draws from them changes what everything after it draws."""

        data = self.open(plugin, self.splits[0])
        data[0]  # what is made at the first reading, such as a network, may draw

        def read(samples: list[int]) -> tuple[Tensor, tuple[Any, ...]]:
            for i in samples:
                data[i]
            return torch.get_rng_state(), numpy_state()

        chosen = self.chosen(data)
        (one, numpy_one), (other, numpy_other) = (under(1, partial(read, samples)) for samples in ([], chosen))
        assert same(one, other), "draws from torch's global generator, or seeds it; use a generator of its own"
        equal_results = numpy_one[1] == numpy_other[1] and bool((numpy_one[0] == numpy_other[0]).all())
        assert equal_results, "draws from numpy's global generator, or seeds it; use numpy.random.default_rng(seed)"

    def test_images_are_rgb(self, plugin: Any) -> None:
        for _, sample in self.samples(plugin):
            image = sample.image
            assert image.ndim == 3, f"image {tuple(image.shape)}, expected (3, H, W)"
            assert image.shape[0] == 3, f"image {tuple(image.shape)}, expected (3, H, W)"
            assert image.dtype in (torch.uint8, torch.float32), f"image {image.dtype}, expected uint8 or float32"
            floats = image.float() / (255 if image.dtype == torch.uint8 else 1)
            low = floats.min()
            high = floats.max()
            assert low >= 0, f"image values {low} to {high}, expected 0 to 1"
            assert high <= 1, f"image values {low} to {high}, expected 0 to 1"
            assert floats.std() > 0, "an image of one colour"

    def test_labels_are_as_their_tasks_define_them(self, plugin: Any) -> None:
        for tasks, sample in self.samples(plugin):
            for name, target in sample.targets.items():
                assert name in tasks.names, f"a label for {name!r}, which is no task"
                problems = tasks[name].form_problems(target, size_of(sample))
                assert not problems, f"{name}: label: {problems[0]}"

    def test_label_values_are_possible(self, plugin: Any) -> None:
        for tasks, sample in self.samples(plugin):
            for name, target in sample.targets.items():
                problems = tasks[name].value_problems(target)
                assert not problems, f"{name}: {problems[0]}"

    def test_labels_have_valid_pixels(self, plugin: Any) -> None:
        data = self.open(plugin, self.splits[0])
        for task in data.tasks:
            targets = [data[i].targets.get(task.name) for i in self.chosen(data)]
            valid = [bool(task.valid(target[None]).any()) for target in targets if target is not None]
            assert any(valid) or not valid, f"{task.name}: no valid pixel in {len(valid)} samples"

    def test_same_index_same_sample(self, plugin: Any) -> None:
        """In any order, in any process, whatever was done to a sample that was handed out before."""
        data = self.open(plugin, self.splits[0])
        first = under(1, lambda: data[0])
        kept = {name: tensor.clone() for name, tensor in tensors(first).items()}
        # augmentation may write into a sample: a data set that hands out what it keeps would give it changed
        for tensor in tensors(first).values():
            tensor.zero_()
        first.targets.clear()
        under(2, lambda: data[len(data) - 1])
        again = [under(3, lambda: tensors(data[0])), tensors(self.open(plugin, self.splits[0])[0])]
        for found in again:
            assert found.keys() == kept.keys(), f"sample 0 has {list(found)} when read again, {list(kept)} before"
            assert all(same(found[name], kept[name]) for name in kept), "sample 0 is not the same when read again"

    def test_labels_that_are_wanted_are_the_samples_own(self, plugin: Any) -> None:
        """Of a data set with ``sample_with``, which reads no other labels."""
        data = self.open(plugin, self.splits[0])
        if not hasattr(data, "sample_with"):
            return
        whole = data[0]
        for wanted in ((), *((name,) for name in data.tasks.names)):
            some = read_sample(data, 0, wanted)
            assert same(some.image, whole.image), f"sample_with(0, {wanted}): another image"
            expected = [name for name in whole.targets if name in wanted]
            assert list(some.targets) == expected, f"sample_with(0, {wanted}): labels of {list(some.targets)}"
            for name in expected:
                assert same(some.targets[name], whole.targets[name]), f"sample_with(0, {wanted}): another label"

    def test_samples_fit_in_a_batch(self, plugin: Any) -> None:
        data = self.open(plugin, self.splits[0])
        last = len(data) - 1
        every = torch.ones(len(data), len(data.tasks), dtype=torch.bool)
        blanked = BlankedDataset(data, every if data.labelled is None else data.labelled)
        assert collate([blanked[0], blanked[last]]).images.shape[0] == 2

    def test_missing_labels_are_in_its_mask(self, plugin: Any) -> None:
        for split in self.splits:
            data = self.open(plugin, split)
            check_mask(data.labelled, len(data), data.tasks)
            for i in self.chosen(data):
                for k, name in enumerate(data.tasks.names):
                    promised = data.labelled is None or bool(data.labelled[i, k])
                    missing = promised and name not in data[i].targets
                    assert not missing, f"{split}[{i}]: no label {name}; the data set's mask says there is"

    def test_names_are_unique(self, plugin: Any) -> None:
        for split in self.splits:
            data = self.open(plugin, split)
            if data.names is not None:
                assert len(data.names) == len(data), f"{split}: {len(data.names)} names for {len(data)} samples"
                assert len(set(data.names)) == len(data), f"{split}: two samples have one name"
                other = {type(name).__name__ for name in data.names} - {"str"}
                assert not other, f"{split}: names are {sorted(other)}, expected str"

    def test_travels_to_a_worker(self, plugin: Any) -> None:
        data = self.open(plugin, self.splits[0])
        # a loader's workers get it so where processes are spawned, as on macOS and Windows
        there = pickle.loads(pickle.dumps(data))
        assert same(there[0].image, data[0].image), "a pickled copy gives another sample"


def numpy_state() -> tuple[Any, ...]:
    """Words and position of numpy's global generator."""
    state: Any = np.random.get_state()
    return state[1], state[2]


def fingerprint(image: Tensor) -> bytes:
    """A digest of an image."""
    return hashlib.sha256(image.contiguous().numpy().tobytes()).digest()


def size_of(sample: Sample) -> tuple[int, int]:
    """(H, W) of a sample's image."""
    return int(sample.image.shape[-2]), int(sample.image.shape[-1])
