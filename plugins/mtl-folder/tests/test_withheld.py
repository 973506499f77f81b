"""Files of labels that nobody wants are not opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtl_core import read_sample
from mtl_core.testing import opened_files


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("wanted", [(), ("depth",), ("parts", "heat")])
def test_only_files_of_labels_that_are_wanted_are_opened(
    dense: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: tuple[str, ...], cache: bool
) -> None:
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    data = dense.open(check=0, cache=cache)
    with opened_files(dense.root) as opened:
        sample = read_sample(data, 1, wanted)
    assert set(sample.targets) == set(wanted)
    folders = {"parts": "masks"}
    assert {path.parent.name for path in opened} == {"images", *(folders.get(task, task) for task in wanted)}
