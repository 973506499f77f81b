"""Files of labels that nobody wants are not opened; of a wanted one, the mask of its pixels is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core import read_sample
from mtl_core.testing import opened_files
from mtl_taskonomy import Taskonomy


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    ("wanted", "folders"),
    [
        ((), {"rgb"}),
        (("segmentation",), {"rgb", "segment_semantic"}),
        (("keypoints", "depth"), {"rgb", "keypoints2d", "depth_zbuffer"}),
        (("normals",), {"rgb", "normal", "depth_zbuffer"}),
    ],
)
def test_only_files_of_labels_that_are_wanted_are_opened(
    tree: Path, wanted: tuple[str, ...], folders: set[str], cache: bool
) -> None:
    data = Taskonomy(root=str(tree), incomplete=True, cache=cache).build_dataset("train")
    with opened_files(tree) as opened:
        sample = read_sample(data, 2, wanted)
    assert set(sample.targets) == set(wanted)
    assert {path.parent.name for path in opened} == folders
