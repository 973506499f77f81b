"""What samples hold: the files' values, in order, the same from either form and from the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_core import Sample
from mtl_nyuv2 import NYUv2
from mtl_nyuv2.dataset import NYUv2Dataset

Raw = Callable[[int], dict[str, Any]]


def opened(root: Path, split: str = "train", **options: Any) -> Any:
    """The data set, behind its cache where it has one."""
    dataset: Any = NYUv2(root=str(root), **options).build_dataset(split)
    assert isinstance(dataset if options.get("cache") is False else dataset.dataset, NYUv2Dataset)
    return dataset


def assert_equal(a: Sample, b: Sample) -> None:
    assert torch.equal(a.image, b.image)
    assert a.targets.keys() == b.targets.keys()
    assert all(torch.equal(a.targets[name], b.targets[name]) for name in a.targets)


def test_values_are_what_the_files_say(pictures: Path, raw: Raw) -> None:
    sample = opened(pictures)[1]
    files = raw(1)
    assert np.array_equal(sample.image, files["image"].transpose(2, 0, 1))
    assert np.array_equal(sample.targets["segmentation"], files["label"].astype(int) - 1)
    np.testing.assert_allclose(sample.targets["depth"][0], files["depth"] / 1000, rtol=1e-6)


def test_normals_are_what_the_files_say(pictures: Path, raw: Raw) -> None:
    """The same direction, length 1, within the rounding of 8 bits; the first two rows are invalid."""
    normals = opened(pictures)[0].targets["normals"].double().numpy()
    coded = raw(0)["normal"].astype(float)
    assert (normals[:, :2] == 0).all()
    vectors = ((coded - 128) / 127).transpose(2, 0, 1)[:, 2:]
    np.testing.assert_allclose(np.linalg.norm(normals[:, 2:], axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(normals[:, 2:] * np.linalg.norm(vectors, axis=0), vectors, atol=1e-6)


def test_both_forms_give_the_same_samples(pictures: Path, arrays: Path) -> None:
    one = opened(pictures)
    two = opened(arrays)
    for a, b in zip((one[i] for i in range(3)), (two[i] for i in range(3)), strict=True):
        assert (a.image.dtype, b.image.dtype) == (torch.uint8, torch.float32)
        torch.testing.assert_close(a.image / 255, b.image)
        for task in a.targets:
            torch.testing.assert_close(a.targets[task], b.targets[task])


def test_files_are_in_the_order_of_their_numbers(arrays: Path) -> None:
    assert opened(arrays).names == ["0", "2", "10"]
    assert opened(arrays, "test").names == ["0", "1"]


def test_endings_may_differ_and_hidden_files_are_left_out(pictures: Path) -> None:
    folder = pictures / "train" / "image"
    Image.open(folder / "0001.png").save(folder / "0001.JPG", quality=95)
    (folder / "0001.png").unlink()
    (folder / "._0002.png").write_bytes(b"a copy's resource fork")
    dataset = opened(pictures, cache=False)
    assert dataset.names == ["0000", "0001", "0002"]
    assert dataset.source.images[1].name == "0001.JPG"


def test_grey_and_transparent_images_are_rgb(pictures: Path, raw: Raw) -> None:
    folder = pictures / "train" / "image"
    grey = Image.fromarray(raw(0)["image"]).convert("L")
    grey.save(folder / "0000.png")
    Image.fromarray(raw(1)["image"]).convert("RGBA").save(folder / "0001.png")
    dataset = opened(pictures)
    assert np.array_equal(dataset[0].image, np.stack([np.asarray(grey)] * 3))
    assert np.array_equal(dataset[1].image, raw(1)["image"].transpose(2, 0, 1))


def test_fewer_tasks_need_fewer_folders(pictures: Path) -> None:
    shutil.rmtree(pictures / "train" / "normal")
    dataset = opened(pictures, tasks=("depth", "segmentation"))
    assert dataset.tasks.names == tuple(dataset[0].targets) == ("depth", "segmentation")


def test_what_is_missing_in_arrays_is_invalid(arrays: Path) -> None:
    path = arrays / "train" / "depth" / "0.npy"
    depth = np.load(path)
    depth[0, 5:8, 0] = np.nan, np.inf, -1
    np.save(path, depth)
    found = opened(arrays)[0].targets["depth"]
    assert found.isfinite().all()
    assert found[0, 0, 5:8].eq(0).all()


@pytest.mark.parametrize("form", ["pictures", "arrays"])
@pytest.mark.parametrize("size", [None, (16, 20)])
def test_a_cached_sample_equals_a_fresh_one(request: pytest.FixtureRequest, form: str, size: Any) -> None:
    root = request.getfixturevalue(form)
    cached = opened(root, size=size)
    fresh = opened(root, size=size, cache=False)
    for i in (0, 2, 0, 2):
        assert_equal(cached[i], fresh[i])
    shutil.rmtree(root)
    assert cached[0].targets["segmentation"].dtype == torch.int64
    with pytest.raises(Exception, match="no such file"):
        fresh[0]


def test_another_run_reads_no_files(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(pictures)
    kept = [first[i] for i in range(3)]
    later = opened(pictures)
    monkeypatch.setattr(NYUv2Dataset, "__getitem__", None)
    for i in range(3):
        assert_equal(later[i], kept[i])


def test_a_label_that_changed_is_read_again(pictures: Path) -> None:
    opened(pictures)[0]
    path = pictures / "train" / "label" / "0000.png"
    Image.fromarray(np.full((24, 32), 7, np.uint8)).save(path)
    assert (opened(pictures)[0].targets["segmentation"] == 6).all()


def test_what_is_kept_is_small(pictures: Path) -> None:
    """Bytes of the image, a byte per class, two per depth, and normals as they are."""
    dataset = opened(pictures)
    dataset[0]
    assert [field.kind for field in dataset.store.layout.fields] == ["uint8", "i1", "u2", "float32"]


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_other_sample(pictures: Path, index: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        opened(pictures)[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": ""}, "root"),
        ({"tasks": ("depht",)}, "no task 'depht'; did you mean \"depth\""),
        ({"tasks": ()}, "at least one task"),
        ({"tasks": ("depth", "depth")}, "none twice"),
        ({"classes": 14}, "classes"),
        ({"size": (0, 10)}, r"expected \[height, width\] in pixels, found \[0, 10\]"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NYUv2(**{"root": "data", **options})
