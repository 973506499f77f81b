"""Samples of every published tree: values, order, names, resizing, missing labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mtl_cityscapes import Cityscapes
from mtl_core import MultiTaskDataset, Sample

Raw = Callable[[str], dict[str, NDArray[Any]]]
THREE = ("segmentation", "parts", "depth")


def opened(root: Path, split: str = "train", **options: Any) -> MultiTaskDataset:
    return Cityscapes(root=str(root), **options).build_dataset(split)


def assert_equal(a: Sample, b: Sample) -> None:
    torch.testing.assert_close(floats(a.image), floats(b.image))
    assert a.targets.keys() == b.targets.keys()
    for name in a.targets:
        torch.testing.assert_close(a.targets[name], b.targets[name])


def floats(image: torch.Tensor) -> torch.Tensor:
    return image / 255 if image.dtype == torch.uint8 else image


@pytest.mark.parametrize("classes", [19, 7])
def test_values_are_what_the_files_say(
    trees: Path, raw: Raw, names: dict[str, Sequence[str]], tables: dict[int, NDArray[Any]], classes: int
) -> None:
    for split, expected in names.items():
        dataset = opened(trees / "official", split, classes=classes)
        assert dataset.names == list(expected)
        for i, name in enumerate(expected):
            sample = dataset[i]
            files = raw(name)
            assert np.array_equal(sample.image, files["image"].transpose(2, 0, 1))
            assert np.array_equal(sample.targets["segmentation"], tables[classes][files["ids"]])
            known = files["raw"] > 0
            pixels = np.where(known, (files["raw"].astype(float) - 1) / 256 * 64 / 2048, -1)
            np.testing.assert_allclose(sample.targets["depth"][0], pixels, rtol=1e-6)


def test_metres_use_each_images_camera(trees: Path, raw: Raw, names: dict[str, Sequence[str]]) -> None:
    dataset = opened(trees / "official", tasks=("depth",), depth="metres", max_depth=None)
    for i, baseline in ((0, 0.222126), (3, 0.21)):
        values = raw(names["train"][i])["raw"].astype(float)
        with np.errstate(divide="ignore"):
            expected = np.where(values > 1, baseline * 2268.36 * 256 / (values - 1), 0)
        np.testing.assert_allclose(dataset[i].targets["depth"][0], expected, rtol=1e-5)


def test_metres_end_at_a_distance(trees: Path) -> None:
    far = opened(trees / "official", tasks=("depth",), depth="metres", max_depth=None)[0].targets["depth"]
    near = opened(trees / "official", tasks=("depth",), depth="metres", max_depth=10.0)[0].targets["depth"]
    assert torch.equal(near, torch.where(far <= 10, far, 0))
    assert 0 < near.count_nonzero() < far.count_nonzero()


def test_an_archives_folder_may_stay(trees: Path) -> None:
    for options in ({"tasks": THREE}, {"tasks": ("depth",), "depth": "metres"}):
        assert_equal(opened(trees / "official", **options)[1], opened(trees / "outer", **options)[1])


def test_folders_of_both_kinds_may_be_mixed(official: Path, outer: Path) -> None:
    before = opened(official)[1]
    shutil.rmtree(official / "disparity")
    shutil.move(outer / "disparity_trainvaltest", official)
    assert_equal(opened(official)[1], before)


@pytest.mark.parametrize("depth", ["disparity", "published"])
def test_all_trees_give_the_same_samples(trees: Path, depth: str) -> None:
    forms = [trees / name for name in ("official", "mtan", "dataset/cityscapes", "adashare")]
    for classes in (19, 7):
        first, *others = [opened(root, classes=classes, depth=depth) for root in forms]
        for other in others:
            for i in range(len(first)):
                assert_equal(first[i], other[i])


def test_parts_are_the_same_in_both_trees_that_have_them(trees: Path, raw: Raw) -> None:
    one = opened(trees / "official", tasks=THREE)
    two = opened(trees / "dataset" / "cityscapes", tasks=THREE)
    for i in range(4):
        assert_equal(one[i], two[i])
    parts = one[0].targets["parts"]
    uids = raw("aachen_000000_000019")["uids"]
    expected = {2400101: 1, 2401204: 4, 2500002: 2, 2600101: 5, 2799905: 9, 2800003: 7}
    for uid in np.unique(uids):
        assert set(parts[torch.from_numpy(uids == uid)].tolist()) == {expected.get(int(uid), 0)}


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_parts_are_read(official: Path, compression: str) -> None:
    before = opened(official, tasks=("parts",))[0].targets["parts"]
    path = official / "gtFinePanopticParts/train/aachen/aachen_000000_000019_gtFinePanopticParts.tif"
    with Image.open(path) as picture:
        picture.load()
        picture.save(path, compression=compression)
    assert torch.equal(opened(official, tasks=("parts",))[0].targets["parts"], before)


def test_libmtls_name_of_the_labels(mtan: Path) -> None:
    before = opened(mtan, classes=7)[0]
    for split in ("train", "val"):
        (mtan / split / "label_7").rename(mtan / split / "label")
    assert_equal(opened(mtan, classes=7)[0], before)


def test_training_parts_where_the_published_script_puts_them(repacked: Path) -> None:
    before = [opened(repacked, tasks=THREE)[i] for i in range(4)]
    for path in (repacked / "train" / "part_seg").iterdir():
        path.rename(repacked / "train" / f"part_seg{path.name}")
    (repacked / "train" / "part_seg").rmdir()
    found = opened(repacked, tasks=THREE)
    for i in range(4):
        assert_equal(found[i], before[i])


def test_numbered_files_are_in_the_order_of_their_numbers(mtan: Path) -> None:
    for kind in ("image", "label_19", "depth"):
        (mtan / "train" / kind / "1.npy").rename(mtan / "train" / kind / "10.npy")
    assert opened(mtan).names == ["0", "2", "3", "10"]


def test_resized_labels_lie_where_the_image_does(trees: Path, raw: Raw) -> None:
    """Halved: a pixel of a label is one of its four; disparity is halved too."""
    small = opened(trees / "official", size=(16, 32), tasks=THREE)[0]
    large = opened(trees / "official", tasks=THREE)[0]
    for task in ("segmentation", "parts"):
        blocks = large.targets[task].view(16, 2, 32, 2).permute(0, 2, 1, 3).reshape(16, 32, 4)
        assert (blocks == small.targets[task][..., None]).any(-1).all()
    depth = large.targets["depth"][0].view(16, 2, 32, 2).permute(0, 2, 1, 3).reshape(16, 32, 4)
    known = small.targets["depth"][0] >= 0
    assert torch.isclose(depth, 2 * small.targets["depth"][0][..., None]).any(-1)[known].all()
    assert (small.targets["depth"][0][:1] == -1).all()
    mean = large.image.float().mean((1, 2))
    assert torch.allclose(small.image.float().mean((1, 2)), mean, atol=1.0)
    assert small.image.dtype == torch.uint8


def test_the_other_encodings_do_not_change_with_the_size(trees: Path) -> None:
    for depth in ("published", "metres"):
        options = {"tasks": ("depth",), "depth": depth, "max_depth": None}
        small = opened(trees / "official", size=(16, 32), **options)[0].targets["depth"]
        large = opened(trees / "official", **options)[0].targets["depth"]
        assert torch.isin(small, large).all()


def test_an_image_without_a_label_is_unlabelled(official: Path) -> None:
    (official / "disparity/train/aachen/aachen_000002_000019_disparity.png").unlink()
    (official / "gtFine/train/bochum/bochum_000000_000313_gtFine_labelIds.png").unlink()
    dataset = opened(official)
    assert dataset.labelled is not None
    assert dataset.labelled.tolist() == [[True, True], [True, False], [True, True], [False, True]]
    assert not dataset.tasks["depth"].valid(dataset[1].targets["depth"][None]).any()
    assert (dataset[3].targets["segmentation"] == -1).all()
    assert opened(official, "test").labelled is None


def test_an_image_without_a_camera_has_no_depth_in_metres(official: Path) -> None:
    (official / "camera/train/aachen/aachen_000002_000019_camera.json").unlink()
    assert opened(official).labelled is None
    labelled = opened(official, depth="metres").labelled
    assert labelled is not None
    assert labelled.tolist() == [[True, True], [True, False], [True, True], [True, True]]


def test_arrays_and_repacked_pictures_may_lack_labels_too(mtan: Path, repacked: Path) -> None:
    (mtan / "train" / "depth" / "0.npy").unlink()
    (repacked / "train" / "depth" / "0.png").unlink()
    for root in (mtan, repacked):
        labelled = opened(root).labelled
        assert labelled is not None
        assert labelled.tolist() == [[True, False], [True, True], [True, True], [True, True]]


def test_an_image_of_which_nothing_is_labelled(official: Path) -> None:
    """As in the test split: ids of void alone."""
    path = official / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    Image.fromarray(np.full((32, 64), 3, np.uint8)).save(path)
    for classes in (19, 7):
        target = opened(official, classes=classes)[0].targets["segmentation"]
        assert (target == -1).all()


def test_a_city_without_images_is_left_out(official: Path) -> None:
    """As in the samples of a few cities: labels of more cities than images."""
    shutil.rmtree(official / "leftImg8bit/train/bochum")
    dataset = opened(official)
    assert len(dataset) == 3
    assert dataset.labelled is None


def test_hidden_files_are_left_out(official: Path, mtan: Path) -> None:
    (official / "leftImg8bit/train/aachen/._aachen_000000_000019_leftImg8bit.png").write_bytes(b"a resource fork")
    (official / "leftImg8bit/train/.cache").mkdir()
    (mtan / "train/image/._0.npy").write_bytes(b"a resource fork")
    assert len(opened(official)) == len(opened(mtan)) == 4


def test_a_task_left_out_needs_no_folder(official: Path) -> None:
    for kind in ("disparity", "camera", "gtFinePanopticParts"):
        shutil.rmtree(official / kind)
    dataset = opened(official, tasks=("segmentation",), depth="metres")
    assert dataset.tasks.names == tuple(dataset[0].targets) == ("segmentation",)


@pytest.mark.parametrize("index", [-1, 4])
def test_there_is_no_other_sample(trees: Path, index: int) -> None:
    with pytest.raises(IndexError, match="of 4"):
        opened(trees / "official")[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": ""}, "root"),
        ({"tasks": ("disparity",)}, "no task 'disparity'"),
        ({"tasks": ()}, "at least one task"),
        ({"tasks": ("depth", "depth")}, "none twice"),
        ({"size": (0, 10)}, r"expected \[height, width\] in pixels, found \[0, 10\]"),
        ({"classes": 20}, "classes"),
        ({"depth": "meters"}, "depth"),
        ({"zoom": "divide"}, "zoom"),
        ({"max_depth": 0.0}, "expected metres above 0 or none, found 0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cityscapes(**{"root": "data", **options})


def test_the_zoom_is_the_options(trees: Path) -> None:
    label = torch.ones(1, 1, 2, 2)
    for zoom, factor in (("geometry", 2.0), ("mtan", 0.5)):
        tasks = opened(trees / "mtan", zoom=zoom, depth="published").tasks
        assert torch.equal(tasks["depth"].zoom(label, 2.0), label * factor)


def test_the_cache_is_told_what_a_sample_depends_on(trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file, and whatever makes another sample of it."""
    passed: list[tuple[list[Path], dict[str, object], bool]] = []

    def cached(dataset: MultiTaskDataset, files: Any, settings: Any, keep: bool) -> MultiTaskDataset:
        passed.append((list(files), dict(settings), keep))
        return dataset

    monkeypatch.setattr("mtl_data.cached", cached)
    changes: list[dict[str, Any]] = [
        {}, {"size": (16, 32)}, {"tasks": ("depth",)}, {"classes": 7}, {"classes": 7, "rare": "ignored"},
        {"depth": "published"}, {"depth": "metres"}, {"depth": "metres", "max_depth": 9.0},
    ]  # fmt: skip
    for options in changes:
        opened(trees / "official", **options)
    settings = [found[1] for found in passed]
    assert all(settings.count(found) == 1 for found in settings)
    assert all(path.is_file() for files, _, _ in passed for path in files)
    assert [len(files) for files, _, _ in passed] == [12, 12, 8, 12, 12, 12, 16, 16]
    opened(trees / "official", cache=False)
    assert passed[-1][2] is False
    assert passed[-1][1] == settings[0]
