"""The official .mat file: a small one in the published layout, and everything that may be wrong with it."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from mtl_core import DataError
from mtl_core.testing import DatasetContract
from mtl_nyuv2 import NYUv2
from mtl_nyuv2.labelled import FILE
from mtl_nyuv2.official import names_of, split_numbers, tables

H = 6
W = 8
COUNT = 1449


def contents(count: int = COUNT, height: int = H, width: int = W) -> dict[str, Any]:
    """What the file has, as h5py shows it: axes reversed."""
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(256, size=(count, 3, width, height), dtype=np.uint8),
        "depths": rng.uniform(0.7, 9, (count, width, height)).astype(np.float32),
        "rawDepths": np.zeros((count, width, height), np.float32),
        "labels": rng.integers(895, size=(count, width, height)).astype(np.uint16),
        "instances": np.zeros((count, width, height), np.uint8),
        "accelData": np.zeros((4, count), np.float32),
    }


def write(path: Path, values: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in values.items():
            file.create_dataset(name, data=array)
        text = file.create_dataset("#refs#/a", data=np.frombuffer("wall".encode("utf-16-le"), np.uint16)[:, None])
        file.create_dataset("names", data=np.array([[text.ref]], dtype=h5py.ref_dtype))
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" ")
    with path.open("rb+") as block:
        block.write(header)
    return path


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return contents()


@pytest.fixture
def official(tmp_path: Path, whole: dict[str, Any]) -> Path:
    """A folder that holds the file."""
    return write(tmp_path / "nyu" / FILE, whole).parent


def opened(root: Path, split: str = "train", **options: Any) -> Any:
    return NYUv2(root=str(root), cache=False, **options).build_dataset(split)


def message(root: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(root, split, **options)[0]
    return str(caught.value)


class TestContract(DatasetContract):
    @pytest.fixture
    def plugin(self, tmp_path: Path) -> NYUv2:
        values = contents(COUNT, 24, 32)
        values["depths"][:] = np.linspace(2, 3, 24)  # a surface, so that its normals are known
        return NYUv2(root=str(write(tmp_path / FILE, values)), tasks=("segmentation", "depth", "normals"))


def test_the_official_splits() -> None:
    train = split_numbers("train")
    test = split_numbers("test")
    assert (len(train), len(test)) == (795, 654)
    assert sorted(train + test) == list(range(1, 1450))
    assert (train[:4], test[:4]) == ([3, 4, 5, 6], [1, 2, 9, 14])


def test_the_class_tables() -> None:
    thirteen = names_of(13)
    forty = names_of(40)
    assert (len(thirteen), len(forty)) == (13, 40)
    both = {forty[number - 1]: thirteen[tables(40, 13)[number] - 1] for number in range(1, 41)}
    assert both["wall"] == both["door"] == "wall"
    assert (both["pillow"], both["desk"], both["night stand"]) == ("objects", "table", "furniture")
    assert tables(894, 40).shape == tables(894, 13).shape == (895,)
    assert tables(894, 40)[0] == tables(894, 13)[0] == 0
    assert set(tables(894, 40)[1:]) == set(range(1, 41))
    assert np.array_equal(tables(40, 13)[tables(894, 40)], tables(894, 13))


@pytest.mark.parametrize(("split", "index", "number"), [("train", 0, 3), ("train", 794, 1449), ("test", 2, 9)])
def test_values_are_what_the_file_says(
    official: Path, whole: dict[str, Any], split: str, index: int, number: int
) -> None:
    dataset = opened(official, split, tasks=("segmentation", "depth"))
    sample = dataset[index]
    if (split, index) != ("train", 794):
        assert dataset.names[index] == f"{number:04d}"
    number = int(dataset.names[index])
    assert np.array_equal(sample.image, whole["images"][number - 1].transpose(0, 2, 1))
    assert np.array_equal(sample.targets["depth"][0], whole["depths"][number - 1].T)
    assert np.array_equal(sample.targets["segmentation"], tables(894, 13)[whole["labels"][number - 1].T] - 1)
    assert sample.targets["segmentation"].dtype == torch.int64


def test_forty_classes(official: Path, whole: dict[str, Any]) -> None:
    dataset = opened(official, tasks=("segmentation",), classes=40)
    assert (dataset.tasks[0].channels, dataset.tasks[0].classes[39]) == (40, "other prop")
    labels = dataset[0].targets["segmentation"]
    assert np.array_equal(labels, tables(894, 40)[whole["labels"][2].T] - 1)


@pytest.mark.parametrize("where", ["file", "folder", "above"])
def test_the_root_may_be_the_file_its_folder_or_the_folder_above(official: Path, where: str) -> None:
    root = {"file": official / FILE, "folder": official, "above": official.parent}[where]
    assert len(opened(root, "test", tasks=("depth",))) == 654


def test_an_image_without_labels_is_unlabelled(tmp_path: Path, whole: dict[str, Any]) -> None:
    labels = whole["labels"].copy()
    labels[2] = 0
    root = write(tmp_path / FILE, whole | {"labels": labels})
    assert (opened(root, tasks=("segmentation",))[0].targets["segmentation"] == -1).all()


def test_splits_of_a_file_beside_it(official: Path) -> None:
    savemat(official / "splits.mat", {"trainNdxs": np.array([[7], [2]]), "testNdxs": np.array([[1]])})
    assert opened(official, tasks=("depth",)).names == ["0007", "0002"]
    assert opened(official, "test", tasks=("depth",)).names == ["0001"]


def test_a_damaged_file_of_splits(official: Path) -> None:
    (official / "splits.mat").write_bytes(b"nothing")
    found = message(official, tasks=("depth",))
    assert found.startswith(f"{official / 'splits.mat'}: trainNdxs cannot be read (")
    assert "without the file the same lists are taken" in found


def test_a_sample_travels_to_a_worker(official: Path) -> None:
    dataset = opened(official, tasks=("depth",))
    dataset[0]
    there = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(there[0].image, dataset[0].image)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("no data")


def without(key: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[key]

    return damage


def other(key: str, values: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[key]
            file.create_dataset(key, data=values)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "truncated": (truncated, ("cannot be read as HDF5", "expected nyu_depth_v2_labeled.mat", "copy it again")),
    "text": (text, ("cannot be read as HDF5", "copy it again")),
    "no labels": (without("labels"), ("no 'labels' in it (it has: ", "expected nyu_depth_v2_labeled.mat")),
    "a group": (other("depths", np.float32(1)), ("'depths' is (), expected 3 axes",)),
    "fewer": (other("images", np.zeros((100, 3, W, H), np.uint8)), ("100 images, but the train split has image 14",)),
    "no such class": (other("labels", np.full((COUNT, W, H), 900, np.uint16)), ("to 900, expected 0 (unlabelled)",)),
    "another size": (other("depths", np.ones((COUNT, W, 5), np.float32)), ("5 × 8 pixels", "6 × 8 pixels", "one size")),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_a_file_is_wrong(official: Path, case: str) -> None:
    damage, expected = DAMAGES[case]
    damage(official / FILE)
    found = message(official, tasks=("segmentation", "depth"))
    assert found.startswith(f"{official / FILE}")
    assert [part for part in expected if part not in found] == []


def test_no_edges_in_it(official: Path) -> None:
    found = message(official, tasks=("edges",))
    assert "no labels of edges in this form of the data (it has: segmentation, depth, normals)" in found
    assert "plugins.nyuv2.tasks" in found


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = message(tmp_path / "empty")
    assert found.startswith(f"{tmp_path / 'empty'}: no images of the train split; expected .jpg or .png files in ")
    assert FILE in found


@pytest.fixture
def normals(tmp_path: Path) -> Path:
    """A folder with a picture for each image of the test split, by number, all facing the camera."""
    made = tmp_path / "normals"
    made.mkdir()
    for number in split_numbers("test"):
        Image.fromarray(np.full((H, W, 3), (128, 128, 1), np.uint8)).save(made / f"nyu_{number}.png")
    return made


def test_normals_from_a_folder(official: Path, normals: Path) -> None:
    dataset = opened(official, "test", tasks=("normals",), normals=str(normals))
    expected = torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1).expand(3, H, W)
    torch.testing.assert_close(dataset[3].targets["normals"], expected)


def test_a_folder_of_normals_lacks_one(official: Path, normals: Path) -> None:
    (normals / "nyu_9.png").unlink()
    found = message(official, "test", tasks=("normals",), normals=str(normals))
    assert found.startswith(f"{normals}: 653 files of normals; image '0009': has none; expected one .png or .npy file")


def test_a_folder_of_normals_has_two(official: Path, normals: Path) -> None:
    shutil.copy(normals / "nyu_9.png", normals / "new_9.png")
    found = message(official, "test", tasks=("normals",), normals=str(normals))
    assert "new_9.png and nyu_9.png are both its" in found


def test_normals_of_another_size(official: Path, normals: Path) -> None:
    Image.fromarray(np.full((H, W + 1, 3), 1, np.uint8)).save(normals / "nyu_1.png")
    found = message(official, "test", tasks=("normals",), normals=str(normals))
    assert found.startswith(f"{normals / 'nyu_1.png'}: 6 × 9 pixels, but its image")


def test_no_folder_of_normals(official: Path, tmp_path: Path) -> None:
    found = message(official, tasks=("normals",), normals=str(tmp_path / "none"))
    assert found.startswith(f"{tmp_path / 'none'}: no such folder; ")


def test_normals_need_depth(official: Path) -> None:
    without("depths")(official / FILE)
    assert "no 'depths' in it" in message(official, tasks=("normals",))


def test_real_images_through_the_official_form(real: Path, tmp_path: Path) -> None:
    """The real pictures, put into a file of this form, are read as they are from the pictures."""
    pictures = NYUv2(root=str(real), cache=False, tasks=("segmentation", "depth")).build_dataset("train")
    some = [pictures[i] for i in (0, 200, 794)]
    number_of = {int(k): n for n, k in reversed(list(enumerate(tables(894, 13))))}
    values = {
        "images": np.stack([s.image.numpy() for s in some]).transpose(0, 1, 3, 2),
        "depths": np.stack([s.targets["depth"][0].numpy() for s in some]).transpose(0, 2, 1),
        "labels": np.vectorize(lambda k: number_of[k + 1])(
            np.stack([s.targets["segmentation"].numpy() for s in some])
        ).transpose(0, 2, 1).astype(np.uint16),
    }  # fmt: skip
    root = write(tmp_path / FILE, values).parent
    savemat(root / "splits.mat", {"trainNdxs": np.array([[1], [2], [3]]), "testNdxs": np.array([[1]])})
    found = opened(root)
    for i, sample in enumerate(some):
        assert torch.equal(found[i].image, sample.image)
        for task, label in sample.targets.items():
            assert torch.equal(found[i].targets[task], label)
