"""NYUD_MT: a small archive in its layout, and everything that may be wrong with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_core import BinaryEdges, DataError
from mtl_core.testing import DatasetContract
from mtl_nyuv2 import NYUv2
from mtl_nyuv2.official import tables

H = 12
W = 16
EVERY = ("segmentation", "depth", "normals", "edges")


def draw(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    normals = rng.normal(size=(H, W, 3))
    return {
        "images": rng.integers(256, size=(H, W, 3), dtype=np.uint8),
        "segmentation": rng.integers(41, size=(H, W), dtype=np.uint8),
        "depth": rng.uniform(1, 9, (H, W)).astype(np.float32),
        "normals": (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32),
        "edge": rng.integers(2, size=(H, W)).astype(np.float32),
    }


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "NYUD_MT"
    for number in range(5):
        for kind, values in draw(number).items():
            path = root / kind / f"{number:04d}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "images":
                Image.fromarray(values).save(path.with_suffix(".jpg"), quality=100, subsampling=0)
            elif kind == "segmentation":
                Image.fromarray(values).save(path.with_suffix(".png"))
            else:
                np.save(path.with_suffix(".npy"), values)
    (root / "gt_sets").mkdir()
    (root / "gt_sets" / "train.txt").write_text("0003\n0000\n0001\n")
    (root / "gt_sets" / "val.txt").write_text("0002\n0004\n")
    return root


def opened(root: Path, split: str = "train", **options: Any) -> Any:
    return NYUv2(**{"root": str(root), "cache": False, "classes": 40, "tasks": EVERY, **options}).build_dataset(split)


def message(root: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(root, split, **options)[0]
    return str(caught.value)


class TestContract(DatasetContract):
    @pytest.fixture
    def plugin(self, archive: Path) -> NYUv2:
        return NYUv2(root=str(archive), classes=40, tasks=EVERY)


def test_the_lists_give_the_splits_in_their_order(archive: Path) -> None:
    assert opened(archive).names == ["0003", "0000", "0001"]
    assert opened(archive, "test").names == ["0002", "0004"]


def test_values_are_what_the_files_say(archive: Path) -> None:
    sample = opened(archive)[0]
    files = draw(3)
    assert (sample.image.int() - torch.from_numpy(files["images"].transpose(2, 0, 1)).int()).abs().float().mean() < 6
    assert np.array_equal(sample.targets["segmentation"], files["segmentation"].astype(int) - 1)
    assert np.array_equal(sample.targets["depth"][0], files["depth"])
    assert np.array_equal(sample.targets["edges"][0], files["edge"])
    np.testing.assert_allclose(sample.targets["normals"], files["normals"].transpose(2, 0, 1), atol=1e-6)
    assert isinstance(opened(archive).tasks["edges"], BinaryEdges)


def test_thirteen_classes_are_put_together(archive: Path) -> None:
    labels = opened(archive, classes=13, tasks=("segmentation",))[0].targets["segmentation"]
    assert np.array_equal(labels, tables(40, 13)[draw(3)["segmentation"]] - 1)


def test_the_archives_outer_folder(archive: Path) -> None:
    assert opened(archive.parent).names == ["0003", "0000", "0001"]


def test_depth_with_an_axis_more(archive: Path) -> None:
    np.save(archive / "depth" / "0003.npy", draw(3)["depth"][..., None])
    assert np.array_equal(opened(archive)[0].targets["depth"][0], draw(3)["depth"])


def test_an_unlabelled_image(archive: Path) -> None:
    Image.fromarray(np.zeros((H, W), np.uint8)).save(archive / "segmentation" / "0003.png")
    assert (opened(archive)[0].targets["segmentation"] == -1).all()


def test_tasks_that_are_not_asked_for_need_no_folder(archive: Path) -> None:
    for kind in ("normals", "edge", "segmentation"):
        shutil.rmtree(archive / kind)
    assert list(opened(archive, tasks=("depth",))[0].targets) == ["depth"]


def test_normals_of_another_folder(archive: Path, tmp_path: Path) -> None:
    (archive / "normals").rename(tmp_path / "other")
    found = opened(archive, normals=str(tmp_path / "other"))[0].targets["normals"]
    np.testing.assert_allclose(found, draw(3)["normals"].transpose(2, 0, 1), atol=1e-6)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("images/0003.jpg", "cannot be read as an image"),
        ("segmentation/0003.png", "cannot be read as an image"),
        ("depth/0003.npy", "cannot be read as an array"),
        ("edge/0003.npy", "cannot be read as an array"),
    ],
)
def test_a_truncated_file(archive: Path, name: str, expected: str) -> None:
    truncate(archive / name)
    found = message(archive)
    assert found.startswith(f"{archive / name}: ")
    assert expected in found


@pytest.mark.parametrize("kind", ["images", "segmentation", "edge"])
def test_a_missing_file(archive: Path, kind: str) -> None:
    path = next((archive / kind).glob("0001.*"))
    path.unlink()
    found = message(archive)
    assert found.startswith(f"{path}: no such file ({archive / kind}: 4 files); expected one for each of 3 images; ")


@pytest.mark.parametrize("kind", ["images", "segmentation"])
def test_an_empty_folder(archive: Path, kind: str) -> None:
    for path in (archive / kind).iterdir():
        path.unlink()
    assert f"{archive / kind}: 0 files" in message(archive)


def test_a_missing_list(archive: Path) -> None:
    (archive / "gt_sets" / "val.txt").unlink()
    found = message(archive, "test")
    assert found.startswith(f"{archive / 'gt_sets' / 'val.txt'}: cannot be read (")
    assert "expected the names of the split's images, one a line" in found


@pytest.mark.parametrize(("text", "expected"), [("", "no name"), ("0001\n0001\n", "'0001' twice")])
def test_a_list_without_or_with_repeated_names(archive: Path, text: str, expected: str) -> None:
    (archive / "gt_sets" / "train.txt").write_text(text)
    assert f"train.txt: {expected}; expected the names" in message(archive)


def test_a_label_of_another_size(archive: Path) -> None:
    np.save(archive / "depth" / "0003.npy", draw(3)["depth"][:, :7])
    assert f"{archive / 'depth' / '0003.npy'}: 12 × 7 pixels, but its image 0003.jpg is 12 × 16" in message(archive)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("edge", np.full((H, W), 0.5), "values from 0.5 to 0.5, expected edges: 0 or 1"),
        ("depth", np.ones((H, W, 2)), "shape (12, 16, 2), expected depth (H, W) in metres"),
        ("normals", np.ones((H, W)), "expected normals (H, W, 3)"),
    ],
)
def test_an_array_is_wrong(archive: Path, kind: str, values: Any, expected: str) -> None:
    np.save(archive / kind / "0003.npy", values)
    assert expected in message(archive)


def test_a_class_that_does_not_exist(archive: Path) -> None:
    Image.fromarray(np.full((H, W), 41, np.uint8)).save(archive / "segmentation" / "0003.png")
    assert "class numbers from 41 to 41, expected 0 (unlabelled) to 40" in message(archive)
