"""Images and labels are those of the files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl_cifar100 import CIFAR100
from mtl_core import Classification, Experiment
from mtl_core.testing import BlankedDataset, collate


def test_tasks_are_twenty_of_five_classes(folder):
    tasks = CIFAR100(root=str(folder)).build_dataset("train").tasks
    assert len(tasks) == 20
    assert all(isinstance(task, Classification) and task.channels == 5 and len(task.classes) == 5 for task in tasks)
    assert tasks["people"].classes == ("baby", "boy", "girl", "man", "woman")


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_are_the_rows_of_the_file(folder, make, split):
    data = CIFAR100(root=str(folder)).build_dataset(split)
    rows = make(split, len(data))[b"data"]
    for index in (0, 17, len(data) - 1):
        image = data[index].image
        assert image.dtype == torch.uint8
        for channel in range(3):
            plane = rows[index, 1024 * channel : 1024 * (channel + 1)].reshape(32, 32)
            assert np.array_equal(image[channel].numpy(), plane)


def test_an_image_has_the_label_of_its_domain_alone(folder, make):
    data = CIFAR100(root=str(folder)).build_dataset("train")
    raw = make("train", 100)
    names = dict(enumerate(data.tasks.names))
    for index in range(100):
        targets = data[index].targets
        (own,) = [name for name, label in targets.items() if label >= 0]
        assert own == names[raw[b"coarse_labels"][index]]
        fine = raw[b"filenames"][index].decode().rpartition("_s_")[0]
        assert data.tasks[own].classes[int(targets[own])] == fine


def test_the_label_mask_has_one_true_in_each_row_and_is_the_labels(folder):
    data = CIFAR100(root=str(folder)).build_dataset("train")
    assert data.labelled.sum(1).tolist() == [1] * 100
    assert data.labelled.sum(0).tolist() == [5] * 20
    for index in range(100):
        assert [label >= 0 for label in data[index].targets.values()] == data.labelled[index].tolist()


def test_names_are_unique_though_files_names_are_not(folder):
    data = CIFAR100(root=str(folder)).build_dataset("train")
    assert data.names[0] == "00000-bear_s_000000"
    assert len(set(data.names)) == 100


def test_a_batch_has_a_label_in_every_row(folder):
    data = CIFAR100(root=str(folder)).build_dataset("train")
    loadable = BlankedDataset(data, data.labelled)
    batch = collate([loadable[index] for index in range(40)])
    assert batch.images.shape == (40, 3, 32, 32)
    assert torch.stack([label >= 0 for label in batch.targets.values()], 1).equal(batch.labelled)


def test_a_file_of_python_3_is_read_too(folder, make):
    value = {key.decode(): item for key, item in make("test", 100).items()}
    value["fine_labels"] = np.array(value["fine_labels"])
    value["coarse_labels"] = np.array(value["coarse_labels"], dtype=">i4")
    value["data"] = np.asfortranarray(value["data"])
    value["filenames"] = [name.decode() for name in value["filenames"]]
    old = CIFAR100(root=str(folder)).build_dataset("test")
    for protocol in (2, 4):
        (folder / "test").write_bytes(pickle.dumps(value, protocol))
        found = CIFAR100(root=str(folder)).build_dataset("test")
        assert found.names == old.names
        assert torch.equal(found.images, old.images)
        assert torch.equal(found.domains, old.domains)
        assert torch.equal(found.classes, old.classes)


def test_index_out_of_range(folder):
    data = CIFAR100(root=str(folder)).build_dataset("test")
    with pytest.raises(IndexError, match="no image 100 of 100"):
        data[100]


def test_a_home_folder_is_expanded(folder: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(CIFAR100(root="~/cifar-100-python").build_dataset("test")) == 100


def test_an_experiment_names_it_by_its_entry_point():
    experiment = Experiment(name="domains", plugins=[CIFAR100(root="data")])
    assert list(experiment.plugins) == ["cifar100"]
