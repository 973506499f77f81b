"""Files of labels that nobody wants are not opened, in any of the trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_cityscapes import Cityscapes
from mtl_core import read_sample
from mtl_core.testing import opened_files


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    ("tree", "image", "classes", "depth"),
    [
        ("official", "leftImg8bit", "gtFine", "disparity"),
        ("mtan", "image", "label_19", "depth"),
        ("adashare", "image", "label_19", "depth"),
        ("dataset/cityscapes", "image", "seg", "depth"),
    ],
)
def test_only_files_of_labels_that_are_wanted_are_opened(
    trees: Path, tree: str, image: str, classes: str, depth: str, cache: bool
) -> None:
    data = Cityscapes(root=str(trees / tree), cache=cache).build_dataset("train")
    for index, (wanted, folders) in enumerate(
        [((), {image}), (("depth",), {image, depth}), (("segmentation",), {image, classes})]
    ):
        with opened_files(trees / tree) as opened:
            sample = read_sample(data, index, wanted)
        assert set(sample.targets) == set(wanted)
        assert {part for path in opened for part in path.parts} & {image, classes, depth} == folders


def test_a_camera_is_read_for_depth_in_metres_alone(trees: Path) -> None:
    data = Cityscapes(root=str(trees / "official"), depth="metres", cache=False).build_dataset("train")
    with opened_files(trees) as opened:
        read_sample(data, 0, ["segmentation"])
    assert not [path for path in opened if "camera" in path.parts]
