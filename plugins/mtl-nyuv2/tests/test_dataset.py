"""What samples hold: the files' values, in order, the same from either form and from the cache."""

from __future__ import annotations

import os
import pickle
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
from mtl_nyuv2.cache import Cache
from mtl_nyuv2.dataset import NYUv2Dataset

Raw = Callable[[int], dict[str, Any]]


def opened(root: Path, split: str = "train", **options: Any) -> NYUv2Dataset:
    dataset = NYUv2(root=str(root), **options).build_dataset(split)
    assert isinstance(dataset, NYUv2Dataset)
    return dataset


def assert_equal(a: Sample, b: Sample) -> None:
    assert torch.equal(a.image, b.image)
    assert a.targets.keys() == b.targets.keys()
    assert all(torch.equal(a.targets[name], b.targets[name]) for name in a.targets)


def test_values_are_what_the_files_say(pictures: Path, raw: Raw) -> None:
    sample, files = opened(pictures)[1], raw(1)
    assert np.array_equal(sample.image, files["image"].transpose(2, 0, 1))
    assert np.array_equal(sample.targets["segmentation"], files["label"].astype(int) - 1)
    np.testing.assert_allclose(sample.targets["depth"][0], files["depth"] / 1000, rtol=1e-6)


def test_normals_are_what_the_files_say(pictures: Path, raw: Raw) -> None:
    """The same direction, length 1, within the rounding of 8 bits; the first two rows are invalid."""
    normals, coded = opened(pictures)[0].targets["normals"].double().numpy(), raw(0)["normal"].astype(float)
    assert (normals[:, :2] == 0).all()
    vectors = ((coded - 128) / 127).transpose(2, 0, 1)[:, 2:]
    np.testing.assert_allclose(np.linalg.norm(normals[:, 2:], axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(normals[:, 2:] * np.linalg.norm(vectors, axis=0), vectors, atol=1e-6)


def test_both_forms_give_the_same_samples(pictures: Path, arrays: Path) -> None:
    one, two = opened(pictures), opened(arrays)
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
    dataset = opened(pictures)
    assert dataset.names == ["0000", "0001", "0002"]
    assert dataset.images[1].name == "0001.JPG"


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
    cached, fresh = opened(root, size=size), opened(root, size=size, cache=False)
    for i in (0, 2, 0, 2):
        assert_equal(cached[i], fresh[i])
    shutil.rmtree(root)
    assert cached[0].targets["segmentation"].dtype == torch.int64
    with pytest.raises(Exception, match="cannot be read"):
        fresh[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here, and nothing to share")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12 warns of threads; the child uses none
def test_forked_processes_share_the_cache(pictures: Path) -> None:
    """What a child reads, its parent need not read again."""
    dataset = opened(pictures)
    child = os.fork()
    if child == 0:
        try:
            dataset[1]
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert dataset.cache.get(1) is not None
    assert dataset.cache.get(0) is None
    assert_equal(dataset[1], opened(pictures, cache=False)[1])


def test_a_cache_keeps_what_it_has_room_for(pictures: Path) -> None:
    dataset = opened(pictures, tasks=("depth",))
    kind = ("u1", (3, 24, 32))
    one = Cache(3, kind, {"depth": ("f4", (1, 24, 32))}).record.itemsize
    dataset.cache = Cache(3, kind, {"depth": ("f4", (1, 24, 32))}, limit=2 * one + 1)
    for i in range(3):
        assert_equal(dataset[i], opened(pictures, tasks=("depth",), cache=False)[i])
    assert [dataset.cache.get(i) is not None for i in range(3)] == [True, True, False]


def test_a_pickled_cache_arrives_empty(pictures: Path) -> None:
    dataset = opened(pictures)
    dataset[0]
    travelled = pickle.dumps(dataset)
    assert len(travelled) < dataset.cache.record.itemsize
    there = pickle.loads(travelled)
    assert there.cache.get(0) is None
    assert_equal(there[0], dataset[0])


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
        ({"size": (0, 10)}, r"expected \[height, width\] in pixels, found \[0, 10\]"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NYUv2(**{"root": "data", **options})
