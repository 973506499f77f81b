"""Labels that do not exist are blank; labels that are promised and do not exist are one line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_core.commands.train import train
from mtl_core.data.datasets import Aligned, BlankedDataset, Joined, Selected
from mtl_core.data.sample import ExtraData, MultiTaskDataset, Sample, collate
from mtl_core.errors import DataError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.factories import EXAMPLES
from mtl_core.testing.toys import Shapes, ToyNetwork

SIZE = (32, 32)


class OneEach(Shapes):
    """One label per sample, task after task; the others are absent."""

    def __init__(self, split: str = "train") -> None:
        super().__init__(6, SIZE, split)
        self.labelled = torch.eye(3, dtype=torch.bool).repeat(2, 1)

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        name = self.tasks.names[index % 3]
        return Sample(sample.image, {name: sample.targets[name]})


@plugin
class Sparse:
    """Toy data where most labels do not exist."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return OneEach(split)


@plugin
class Every:
    """Every label that there is."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.ones(size, len(tasks), dtype=torch.bool)


def test_an_absent_label_is_blank() -> None:
    data = OneEach()
    blanked = BlankedDataset(data, data.labelled)
    batch = collate([blanked[i] for i in range(6)])
    whole = Shapes(6, SIZE, "train")
    for k, task in enumerate(data.tasks):
        target = batch.targets[task.name]
        full = torch.stack([whole[i].targets[task.name] for i in range(6)])
        assert (target.dtype, target.shape) == (full.dtype, full.shape)
        assert torch.equal(task.valid(target).flatten(1).any(1), data.labelled[:, k])


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_a_blank_label_is_made_without_a_target(name: str) -> None:
    task = EXAMPLES[name]
    like = task.example(1, SIZE, torch.Generator().manual_seed(0))
    made = task.blank_label(SIZE)[None]
    assert (made.dtype, made.shape) == (like.dtype, like.shape)
    assert not task.valid(made).any()


def test_labels_that_do_not_exist_train_validate_and_evaluate(tmp_path: Path) -> None:
    experiment = Experiment(
        name="x", plugins={"d": Sparse(), "l": Every(), "n": ToyNetwork()}, epochs=1, batch_size=2, validation=0.5
    )
    run = train(experiment, tmp_path / "run")
    found = json.loads(run.results.read_text())
    assert all(found["metrics"][name] is not None for name in found["headline"])
    assert list(found["details"]) == [f"segmentation/iou/{c}" for c in range(4)]


def test_a_promised_label_that_is_absent_is_one_line() -> None:
    data = BlankedDataset(OneEach(), torch.ones(6, 3, dtype=torch.bool))
    with pytest.raises(DataError, match=r"^sample 0: depth: found no label, expected one; .*$"):
        data[0]


def test_a_class_that_does_not_exist_is_one_line_in_any_sample() -> None:
    class Late(Shapes):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            sample.targets["segmentation"] += 4 * (index == 3)
            return sample

    data = BlankedDataset(Late(4, SIZE, "train"), torch.ones(4, 3, dtype=torch.bool))
    assert data[2]
    with pytest.raises(DataError, match=r"^sample 3: segmentation: found class \d, expected at most 3; "):
        data[3]


def test_extra_data_may_lack_what_the_first_sample_lacks() -> None:
    main = OneEach()
    extra = Aligned("x", ExtraData(OneEach("test"), 2), main)
    assert extra.labelled is not None
    sample = extra[4]
    assert list(sample.targets) == list(main.tasks.names)
    assert main.tasks["depth"].valid(sample.targets["depth"][None]).any()
    assert collate([BlankedDataset(extra, extra.labelled)[i] for i in range(3)]).images.shape[0] == 3


class Asked(Shapes):
    """It counts the labels that it is asked for."""

    def __init__(self, split: str = "train") -> None:
        super().__init__(6, SIZE, split)
        self.asked: Counter[tuple[int, str]] = Counter()

    def __getitem__(self, index: int) -> Sample:
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        sample = super().__getitem__(index)
        self.asked.update((index, name) for name in tasks)
        return Sample(sample.image, {name: label for name, label in sample.targets.items() if name in tasks})


def rows(mask: Tensor, names: tuple[str, ...]) -> set[tuple[int, str]]:
    return {(i, names[k]) for i, k in mask.nonzero().tolist()}


def test_labels_that_are_withheld_are_not_asked_for() -> None:
    data, mask = Asked(), torch.eye(3, dtype=torch.bool).repeat(2, 1)
    blanked, whole = BlankedDataset(data, mask), BlankedDataset(Shapes(6, SIZE, "train"), mask)
    for i in range(6):
        for name, label in whole.blanked(i).targets.items():
            assert torch.equal(blanked.blanked(i).targets[name], label)
    assert set(data.asked) == rows(mask, data.tasks.names)


def test_labels_of_tasks_that_are_not_learned_are_not_asked_for() -> None:
    data = Asked()
    chosen = Selected(data, ["normals", "depth"])
    assert list(chosen[2].targets) == ["normals", "depth"]
    assert list(chosen.sample_with(3, ["depth", "segmentation"]).targets) == ["depth"]
    assert not [index for index, name in data.asked if name == "segmentation" and index == 2]


def test_withheld_labels_of_extra_data_are_not_asked_for() -> None:
    data, mask = Asked("test"), torch.zeros(6, 3, dtype=torch.bool)
    mask[:, 1] = True
    extra = Aligned("x", ExtraData(data, 2, mask), Shapes(6, SIZE, "train"))
    assert extra.labelled is not None
    sample = BlankedDataset(extra, extra.labelled).blanked(4)
    assert list(sample.targets) == list(extra.tasks.names)
    assert set(data.asked) == {(4, "depth")}


@plugin
class Guarded:
    """Toy data of which every label that is withheld is unreadable."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        class Unreadable(Asked):
            def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
                if split == "train" and set(tasks) - {self.tasks.names[index % 3]}:
                    raise DataError(f"sample {index}: a label that is withheld was asked for")
                return super().sample_with(index, tasks)

        return Unreadable(split)


@plugin
class OneOfThree:
    """Sample i keeps the label of task i mod 3."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.eye(len(tasks), dtype=torch.bool).repeat(size // len(tasks), 1)


@pytest.mark.parametrize("tasks", [(), ("depth", "segmentation")])
def test_a_run_asks_for_no_label_that_is_withheld(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    plugins = {"d": Guarded(), "l": OneOfThree(), "n": ToyNetwork()}
    experiment = Experiment(name="x", plugins=plugins, epochs=1, batch_size=2, validation=0.3, tasks=tasks)
    run = train(experiment, tmp_path / "run")
    assert run.results.is_file()  # evaluation reads every label of the test data


class DepthOnly(Shapes):
    """The toy images with their depth alone."""

    def __init__(self, samples: int = 5, size: tuple[int, int] = (32, 32), task: Any = None) -> None:
        super().__init__(samples, size, "extra")
        self.kept = task or Depth(name="depth")

    def __getattribute__(self, name: str) -> Any:
        return Tasks([self.kept]) if name == "tasks" and "kept" in self.__dict__ else super().__getattribute__(name)

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        sample.targets = {"depth": sample.targets["depth"]}
        return sample


def test_missing_labels_are_blank_and_positions_follow() -> None:
    main = Shapes(4, (32, 32), "train")
    extra = Aligned("x", ExtraData(DepthOnly(), 2), main)
    assert extra.labelled is not None
    assert extra.labelled.tolist() == [[False, True, False]] * 5
    joined = Joined([BlankedDataset(main, torch.ones(4, 3, dtype=torch.bool)), BlankedDataset(extra, extra.labelled)])
    assert len(joined) == 9
    sample, labelled, index = joined[6]
    assert (labelled.tolist(), index) == ([False, True, False], 6)
    assert torch.equal(sample.image, DepthOnly()[2].image)
    assert torch.equal(sample.targets["depth"], DepthOnly()[2].targets["depth"])
    assert (sample.targets["segmentation"] == -1).all()
    assert (sample.targets["normals"] == 0).all()
    assert joined[3][2] == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DepthOnly(size=(16, 32)), r"x: extra images of \(16, 32\) pixels .* training images have \(32, 32\)"),
        (DepthOnly(task=Segmentation(name="depth", channels=3)), "x: extra data with Segmentation.*have Depth"),
        (DepthOnly(task=Depth(name="height")), "tasks height, none of which is one of the training data's"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: DepthOnly, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Aligned("x", ExtraData(data, 2), Shapes(4, (32, 32), "train"))
