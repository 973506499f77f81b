"""FastDepth's frames: a small archive in its layout, and everything that may be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mtl_core import DataError
from mtl_core.testing import DatasetContract
from mtl_nyuv2 import NYUv2
from mtl_nyuv2.extended import DepthExtended

H = 12
W = 16
SCENES = {"train": {"kitchen_0001": ["00001", "00021", "00003"], "attic": ["00001"]}, "val": {"official": ["00002"]}}


def draw(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 9, (H, W)).astype(np.float32)
    depth[:, :2] = 0
    return {"rgb": rng.integers(256, size=(3, H, W), dtype=np.uint8), "depth": depth}


def save(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in values.items():
            file.create_dataset(key, data=array)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "nyudepthv2"
    for split, scenes in SCENES.items():
        for scene, frames in scenes.items():
            for frame in frames:
                save(root / split / scene / f"{frame}.h5", draw(int(frame) + len(scene)))
    return root


def opened(root: Path, split: str = "train", **options: Any) -> Any:
    return NYUv2(**{"root": str(root), "cache": False, "tasks": ("depth",), **options}).build_dataset(split)


def message(root: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(root, split, **options)[0]
    return str(caught.value)


class TestContract(DatasetContract):
    @pytest.fixture
    def plugin(self, archive: Path) -> NYUv2:
        return NYUv2(root=str(archive), tasks=("depth",))


def test_frames_are_in_the_order_of_scenes_and_numbers(archive: Path) -> None:
    assert opened(archive).names == ["attic/00001", "kitchen_0001/00001", "kitchen_0001/00003", "kitchen_0001/00021"]
    assert opened(archive, "test").names == ["official/00002"]


def test_values_are_what_the_files_say(archive: Path) -> None:
    sample = opened(archive)[2]
    files = draw(3 + len("kitchen_0001"))
    assert np.array_equal(sample.image, files["rgb"])
    assert np.array_equal(sample.targets["depth"][0], files["depth"])


@pytest.mark.parametrize("outer", [False, True])
def test_they_are_extra_data(archive: Path, outer: bool) -> None:
    root = archive.parent if outer else archive
    (extra,) = DepthExtended(root=str(root), per_batch=3, size=(6, 8)).build_extra_datasets()
    assert (extra.per_batch, len(extra.dataset), extra.dataset.tasks.names) == (3, 4, ("depth",))
    assert extra.dataset[0].image.shape == (3, 6, 8)


def test_there_are_no_classes_in_them(archive: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"no labels of segmentation .* \(it has: depth, normals\); leave it out of plugins\.depth-extended",
    ):
        DepthExtended(root=str(archive), tasks=("depth", "segmentation")).build_extra_datasets()


def test_normals_are_derived(archive: Path) -> None:
    depth = np.full((H, W), 2, np.float32)
    save(archive / "train" / "attic" / "00001.h5", draw(0) | {"depth": depth})
    found = opened(archive, tasks=("normals",))[0].targets["normals"]
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1).expand(3, H, W))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1500])


def text(path: Path) -> None:
    path.write_text("no data")


def missing(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without(*keys: str) -> Any:
    return lambda path: save(path, {key: value for key, value in draw(0).items() if key not in keys})


def other(**values: Any) -> Any:
    return lambda path: save(path, draw(0) | values)


DAMAGES: dict[str, tuple[Any, str]] = {
    "truncated": (truncated, "cannot be read as HDF5"),
    "text": (text, "cannot be read as HDF5"),
    "a folder": (missing, "no such file; expected an HDF5 file with rgb (3, H, W), 8 bits, and depth (H, W) in metres"),
    "no depth": (without("depth"), "no 'depth' in it (it has: rgb)"),
    "nothing": (without("depth", "rgb"), "no 'rgb' in it (it has: nothing)"),
    "channels last": (other(rgb=np.zeros((H, W, 3), np.uint8)), "rgb is uint8 of shape (12, 16, 3); expected"),
    "float image": (other(rgb=np.zeros((3, H, W))), "rgb is float64 of shape"),
    "millimetres": (other(depth=np.zeros((H, W), np.uint16)), "depth is uint16 of shape (12, 16); expected"),
    "another size": (other(depth=np.ones((H, 5), np.float32)), "12 × 5 pixels, but its image 00001.h5 is 12 × 16"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_file_is_wrong(archive: Path, case: str) -> None:
    damage, expected = DAMAGES[case]
    path = archive / "train" / "attic" / "00001.h5"
    damage(path)
    found = message(archive)
    assert found.startswith(f"{path}: ")
    assert expected in found


def test_an_empty_split(archive: Path) -> None:
    (archive / "val" / "official" / "00002.h5").unlink()
    found = message(archive, "test")
    assert found.startswith(f"{archive}: no images of the test split; ")
    assert f".h5 files in {archive / 'val'}/SCENE (FastDepth)" in found
