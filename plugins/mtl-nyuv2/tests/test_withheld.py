"""Files of labels that nobody wants are not opened, with a cache and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core import read_sample
from mtl_core.testing import opened_files
from mtl_nyuv2 import NYUv2

FOLDERS = {"segmentation": "label", "depth": "depth", "normals": "normal"}


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("form", ["pictures", "arrays"])
@pytest.mark.parametrize("wanted", [(), ("depth",), ("normals", "segmentation")])
def test_only_files_of_labels_that_are_wanted_are_opened(
    form: str, cache: bool, wanted: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(form)
    data = NYUv2(root=str(root), cache=cache).build_dataset("train")
    with opened_files(root) as opened:
        sample = read_sample(data, 1, wanted)
    assert set(sample.targets) == set(wanted)
    assert {path.parent.name for path in opened} == {"image", *(FOLDERS[task] for task in wanted)}
