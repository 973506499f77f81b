"""Files of labels that nobody wants are not opened when samples are read.

Which images have parts and normals at all is found out once, from the files, and kept.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core import read_sample
from mtl_core.testing import opened_files
from mtl_pascal_context import PascalContext


@pytest.fixture(autouse=True)
def _decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "decoded"))


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    ("wanted", "folders"),
    [
        ((), {"JPEGImages"}),
        (("segmentation",), {"JPEGImages", "VOC12"}),
        (("saliency",), {"JPEGImages", "sal_distill"}),
        (("parts",), {"JPEGImages", "human_parts"}),
        (("edges",), {"JPEGImages", "trainval"}),
        (("normals", "edges"), {"JPEGImages", "normals_distill", "trainval"}),
    ],
)
def test_only_files_of_labels_that_are_wanted_are_opened(
    tree: Path, wanted: tuple[str, ...], folders: set[str], cache: bool
) -> None:
    data = PascalContext(root=str(tree), size=(24, 32), cache=cache).build_dataset("train")
    with opened_files(tree) as opened:
        sample = read_sample(data, 0, wanted)
    assert set(sample.targets) == set(wanted)
    assert {path.parent.name for path in opened} == folders
