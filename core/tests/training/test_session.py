"""From an experiment to data, label mask, network and plugins that are set up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from mtl_core.data.sample import ExtraData
from mtl_core.errors import CheckpointError, DataError, MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import Shapes, ToyData, ToyLabels, ToyNetwork
from mtl_core.training.session import load_labels, prepare


def experiment(data: ToyData, *more: object, **settings: Any) -> Experiment:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 2, "validation": 0.25, "device": "cpu"} | settings
    return Experiment(name="r", plugins=[data, ToyLabels(), ToyNetwork(), *more], **options)


def test_a_chosen_task_is_the_only_one_that_is_validated() -> None:
    assert prepare(experiment(ToyData(val=6), tasks=("depth",))).validation.dataset.tasks.names == ("depth",)


@plugin
class Empty(ToyData):
    """A split for validation without a sample."""

    @hookimpl
    def name_splits(self) -> tuple[str, ...]:
        return ("train", "val", "test")

    @hookimpl
    def build_dataset(self, split: str) -> Shapes:
        return Shapes(0 if split == "val" else 8, self.size, split)


def test_faults_of_the_split_are_found_before_the_first_step() -> None:
    with pytest.raises(DataError, match=r'plugin "empty", validation data: found no sample'):
        prepare(experiment(Empty()))


@plugin
class MoreDepth:
    """Depth of further images."""

    @hookimpl
    def build_extra_datasets(self) -> list[ExtraData]:
        labelled = torch.tensor([False, True, False]).repeat(5, 1)
        return [ExtraData(Shapes(5, (32, 32), "extra"), 1, labelled)]


@plugin
class Knows:
    """Keeps the label mask that it is handed."""

    @hookimpl
    def setup(self, labelled: Any) -> None:
        self.labelled = labelled


def test_setup_knows_the_labels_of_further_sources() -> None:
    session = prepare(experiment(ToyData(samples=6), MoreDepth(), Knows()))
    found = session.hooks.plugins["knows"].labelled
    assert found[:6].equal(session.labelled)
    assert found[6:].tolist() == [[False, True, False]] * 5


def test_experiments_that_differ_in_one_plugin_start_from_the_same_weights() -> None:
    one = prepare(experiment(ToyData())).network.state_dict()
    two = prepare(experiment(ToyData(), Knows(), MoreDepth())).network.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_label_mask_of_a_run_is_drawn_once(tmp_path: Path) -> None:
    run, made = RunFolder(tmp_path), experiment(ToyData())
    drawn = prepare(made, run).labelled
    other = attrs.evolve(made, plugins=[ToyData(), ToyLabels(never=("depth",)), ToyNetwork()])
    assert not torch.equal(prepare(other).labelled, drawn)
    assert torch.equal(prepare(other, run).labelled, drawn)


MASKS: dict[str, tuple[Any, str]] = {
    "no array": (b"nothing", "cannot be read as a label mask"),
    "no names": ({"labelled": np.ones((8, 3), bool)}, "cannot be read as a label mask"),
    "numbers": ({"labelled": np.ones((8, 3)), "tasks": ["a", "b", "c"]}, "float64 of shape .8, 3. for 3 tasks"),
    "fewer samples": (
        {"labelled": np.ones((7, 3), bool), "tasks": ["segmentation", "depth", "normals"]},
        "label mask of 7 samples and tasks segmentation, depth, normals; the data set has 8 samples",
    ),
    "other tasks": ({"labelled": np.ones((8, 1), bool), "tasks": ["edges"]}, "and tasks edges; the data set has"),
}


@pytest.mark.parametrize("case", MASKS)
def test_a_label_mask_that_does_not_fit_is_one_line(tmp_path: Path, case: str) -> None:
    content, message = MASKS[case]
    path = tmp_path / "labels.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(CheckpointError, match=message):
        load_labels(path, Shapes(8, (8, 8), "train"))


def test_a_started_run_without_its_label_mask_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoint().write_bytes(b"there")
    with pytest.raises(CheckpointError, match=r"labels\.npz"):
        prepare(experiment(ToyData()), run)


def test_unknown_tasks_are_named_with_their_setting() -> None:
    for key in ("tasks", "counts_for"):
        with pytest.raises(MtlError, match=f"{key}: the data set has no task 'dept'; did you mean"):
            prepare(experiment(ToyData(), **{key: ("dept",)}))
