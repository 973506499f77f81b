"""NYU-v2: both layouts, resizing, messages; and the real images where they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mtl_core.errors import DataError
from PIL import Image

from mtl_nyuv2 import NYUv2
from mtl_nyuv2.dataset import NYUv2Dataset

H, W = 24, 32


def arrays(index: int) -> dict[str, np.ndarray]:
    """A sample's raw values: classes −1..12, millimetres, normal bytes."""
    rng = np.random.default_rng(index)
    normal = rng.normal(size=(H, W, 3)) * (0.3, 0.3, 0.3) - (0, 0, 1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal_bytes = np.round(normal * 127 + 128).astype(np.uint8)
    normal_bytes[:2] = 0
    depth = rng.integers(700, 9000, size=(H, W)).astype(np.uint16)
    depth[:, :3] = 0
    return {
        "image": rng.integers(256, size=(H, W, 3), dtype=np.uint8),
        "label": rng.integers(-1, 13, size=(H, W)),
        "depth": depth,
        "normal": normal_bytes,
    }


def write_pictures(root: Path, splits: tuple[str, ...] = ("train", "test"), samples: int = 3) -> Path:
    for split in splits:
        for kind in ("image", "label", "depth", "normal"):
            (root / split / kind).mkdir(parents=True)
        for i in range(samples):
            a = arrays(i)
            Image.fromarray(a["image"]).save(root / split / "image" / f"{i:04d}.png")
            Image.fromarray((a["label"] + 1).astype(np.uint8)).save(root / split / "label" / f"{i:04d}.png")
            Image.fromarray(a["depth"]).save(root / split / "depth" / f"{i:04d}.png")
            Image.fromarray(a["normal"]).save(root / split / "normal" / f"{i:04d}.png")
    return root


def write_arrays(root: Path, samples: int = 3) -> Path:
    for split in ("train", "val"):
        for kind in ("image", "label", "depth", "normal"):
            (root / split / kind).mkdir(parents=True)
        for i in range(samples):
            a = arrays(i)
            normal = np.where(a["normal"].any(-1, keepdims=True), (a["normal"].astype(np.float32) - 128) / 127, 0)
            np.save(root / split / "image" / f"{i}.npy", a["image"].astype(np.float32) / 255)
            np.save(root / split / "label" / f"{i}.npy", a["label"].astype(np.float32))
            np.save(root / split / "depth" / f"{i}.npy", a["depth"].astype(np.float32)[..., None] / 1000)
            np.save(root / split / "normal" / f"{i}.npy", normal.astype(np.float32))
    return root


def opened(root: Path, split: str = "train", **options: object) -> NYUv2Dataset:
    return NYUv2(root=str(root), **options).build_dataset(split)  # type: ignore[return-value, arg-type]


def test_both_layouts_give_the_same_samples(tmp_path: Path) -> None:
    one, two = opened(write_pictures(tmp_path / "a")), opened(write_arrays(tmp_path / "b"))
    for i in range(3):
        a, b = one[i], two[i]
        torch.testing.assert_close(a.image.float() / 255, b.image)
        for task in a.targets:
            torch.testing.assert_close(a.targets[task], b.targets[task])


def test_values_are_what_the_files_say(tmp_path: Path) -> None:
    sample, raw = opened(write_pictures(tmp_path))[1], arrays(1)
    assert np.array_equal(sample.targets["segmentation"], raw["label"])
    np.testing.assert_allclose(sample.targets["depth"][0], raw["depth"] / 1000, rtol=1e-6)
    normals = sample.targets["normals"]
    assert normals[:, :2].eq(0).all()
    torch.testing.assert_close(normals[:, 2:].norm(dim=0), torch.ones(H - 2, W))
    assert (normals[2, 2:] < 0).float().mean() > 0.9


def test_arrays_are_in_numeric_order(tmp_path: Path) -> None:
    dataset = opened(write_arrays(tmp_path, samples=12))
    assert dataset.names == [str(i) for i in range(12)]


@pytest.mark.parametrize("size", [(12, 16), (48, 64), (17, 23)])
def test_resizing_keeps_meanings(tmp_path: Path, size: tuple[int, int]) -> None:
    sample = opened(write_pictures(tmp_path), size=size)[0]
    raw = arrays(0)
    assert sample.image.shape == (3, *size)
    assert set(sample.targets["segmentation"].unique().tolist()) <= set(np.unique(raw["label"]).tolist())
    metres = (raw["depth"].astype(np.float32) / 1000).ravel()
    assert np.isin(sample.targets["depth"].numpy().ravel(), metres).all()
    norms = sample.targets["normals"].norm(dim=0)
    assert ((norms == 0) | ((norms - 1).abs() < 1e-5)).all()


def test_a_cached_sample_equals_a_fresh_one_and_cannot_be_spoilt(tmp_path: Path) -> None:
    root = write_pictures(tmp_path)
    cached, fresh = opened(root, size=(16, 16)), opened(root, size=(16, 16), cache=False)
    cached[0].targets.clear()
    for task, target in fresh[0].targets.items():
        assert torch.equal(cached[0].targets[task], target)


def test_evaluation_needs_the_test_split_only(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, splits=("test",))
    assert len(opened(root, "test")) == 3
    with pytest.raises(DataError, match="no images of the train split"):
        opened(root, "train")


def test_fewer_tasks_need_fewer_folders(tmp_path: Path) -> None:
    root = write_pictures(tmp_path)
    shutil.rmtree(root / "train" / "normal")
    assert opened(root, tasks=("depth", "segmentation")).tasks.names == ("depth", "segmentation")


def spoil_text(path: Path) -> None:
    path.write_text("no image")


def spoil_small(path: Path) -> None:
    with Image.open(path) as picture:
        picture.resize((W // 2, H), Image.Resampling.NEAREST).save(path)


def spoil_class(path: Path) -> None:
    Image.fromarray(np.full((H, W), 40, np.uint8)).save(path)


def spoil_eight_bits(path: Path) -> None:
    Image.fromarray(np.full((H, W), 40, np.uint8)).save(path)


SPOILT: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "text": ("image", spoil_text, "cannot be read as an image"),
    "size": ("depth", spoil_small, "24 × 16 pixels, but its image 0000.png is 24 × 32 pixels"),
    "class": ("label", spoil_class, "classes from 39 to 39, expected −1 (unlabelled) to 12"),
    "depth": ("depth", spoil_eight_bits, "image mode L, expected a 16-bit image in millimetres"),
    "normal": ("normal", spoil_eight_bits, "image mode L, expected an RGB image of normals"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_picture_is_named(tmp_path: Path, case: str) -> None:
    kind, spoil, message = SPOILT[case]
    path = write_pictures(tmp_path) / "train" / kind / "0000.png"
    spoil(path)
    with pytest.raises(DataError) as caught:
        opened(tmp_path)[0]
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


SPOILT_ARRAYS = {
    "image": (np.full((H, W, 3), 200.0), "image values from 200 to 200, expected 0 to 1"),
    "label": (np.full((H, W, 2), 1), "expected numbers of shape (H, W)"),
    "depth": (np.ones((H, W)), "expected numbers of shape (H, W, 1)"),
    "normal": (np.full((H, W, 3), "x"), "expected numbers of shape (H, W, 3)"),
}


@pytest.mark.parametrize("kind", SPOILT_ARRAYS)
def test_a_spoilt_array_is_named(tmp_path: Path, kind: str) -> None:
    array, message = SPOILT_ARRAYS[kind]
    path = write_arrays(tmp_path) / "train" / kind / "0.npy"
    np.save(path, array)
    with pytest.raises(DataError) as caught:
        opened(tmp_path)[0]
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; set plugins.nyuv2.root"):
        opened(tmp_path / "nowhere")
    root = write_pictures(tmp_path / "a")
    (root / "train" / "depth" / "0001.png").unlink()
    with pytest.raises(DataError, match=r"depth: 2 files, but .*image has 3; '0001'"):
        opened(root)
    shutil.rmtree(root / "train" / "normal")
    with pytest.raises(DataError, match=r"normal: no such folder; .*leave the task out"):
        opened(root)


@pytest.fixture(scope="module")
def real() -> Path:
    folder = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "nyuv2"
    if not folder.is_dir():
        pytest.skip("no NYU-v2: set MTL_DATA to a folder with nyuv2/")
    return folder


def test_the_real_images(real: Path) -> None:
    train, test = opened(real, size=(48, 64)), opened(real, "test", size=(48, 64))
    assert (len(train), len(test)) == (795, 327)
    samples = [train[i] for i in range(0, 795, 53)]
    classes = torch.stack([s.targets["segmentation"] for s in samples])
    assert set(classes.unique().tolist()) >= {-1, 3, 4, 5, 11}
    assert (classes == 11).float().mean() > 0.1  # walls
    depth = torch.stack([s.targets["depth"] for s in samples])
    assert 0.5 < depth[depth > 0].min() < 1.5
    assert 5 < depth.max() <= 10
    normals = torch.stack([s.targets["normals"] for s in samples])
    valid = normals.norm(dim=1) > 0.5
    # turned to the camera along its ray: at the borders n_z may exceed 0
    assert (normals[:, 2][valid] < 0).float().mean() > 0.9


def test_real_normals_agree_with_the_sign_of_the_depth_gradient(real: Path) -> None:
    """Where depth grows to the right, a surface facing the camera is turned to … n_x > 0: a left wall faces right."""
    dataset = opened(real)
    agree = []
    for i in range(0, 795, 100):
        s = dataset[i]
        d, n = s.targets["depth"][0], s.targets["normals"]
        slope = (d[:, 2:] - d[:, :-2])[1:-1]
        ok = (n.norm(dim=0)[1:-1, 1:-1] > 0.5) & (d[1:-1, 2:] > 0) & (d[1:-1, :-2] > 0) & (slope.abs() > 0.06) & (slope.abs() < 0.3)
        agree.append((n[0, 1:-1, 1:-1][ok] * slope[ok] > 0).float().mean())
    assert torch.stack(agree).mean() > 0.8
