"""Whose buildings are for what: built-in lists, the publishers' files, and what is missing."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtl_core import DataError
from mtl_taskonomy import Taskonomy
from mtl_taskonomy.splits import _TINY, _parse, buildings_of

PUBLISHED = "id,train,val,test\rihlen,0,0,1\rmerom,1,0,0\rdarden,0,1,0\rhanson,0,0,1\r"
"""Line ends as the published files have them."""


def names(root: Path, split: str = "train", **options: Any) -> list[str]:
    data = Taskonomy(root=str(root), **options).build_dataset(split)
    assert data.names is not None
    return sorted({name.partition("/")[0] for name in data.names})


def message(root: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        names(root, split, **options)
    return str(caught.value)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with a split file of ``medium``."""
    folder = tmp_path / "splits"
    folder.mkdir()
    (folder / "splits_medium.csv").write_bytes(PUBLISHED.encode())
    return folder


def test_tiny_has_the_published_counts() -> None:
    assert [len(_TINY[split]) for split in ("train", "val", "test")] == [25, 5, 5]
    assert len({name for split in _TINY.values() for name in split}) == 35


def test_each_split_has_its_buildings(tree: Path) -> None:
    assert names(tree, "train", incomplete=True) == ["hanson", "merom"]
    assert names(tree, "val", incomplete=True) == ["darden"]
    assert names(tree, "test", incomplete=True) == ["ihlen"]
    assert names(tree, "test", incomplete=True, test="val") == ["darden"]


def test_validation_buildings_are_a_split_where_they_are_there_and_not_tested_on(tree: Path) -> None:
    named = [
        Taskonomy(root=str(tree), incomplete=True, **options).name_splits()
        for options in ({}, {"test": "val"}, {"leave_out": ("darden",)})
    ]
    assert named == [("train", "val", "test"), ("train", "test"), ("train", "test")]


@pytest.mark.parametrize("form", ["file", "folder", "archive"])
def test_a_published_file_is_read(tree: Path, published: Path, form: str) -> None:
    archive = published / "splits_taskonomy.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(published / "splits_medium.csv", "splits_taskonomy/splits_medium.csv")
        made.writestr("__MACOSX/splits_taskonomy/._splits_medium.csv", "")
    path = {"file": published / "splits_medium.csv", "folder": published, "archive": archive}[form]
    options = {"subset": "medium", "split_file": str(path)}
    assert names(tree, "train", **options) == ["merom"]
    assert names(tree, "test", **options) == ["hanson", "ihlen"]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_line_ends_do_not_matter(end: str) -> None:
    assert _parse("x", PUBLISHED.replace("\r", end)) == {
        "train": ("merom",),
        "val": ("darden",),
        "test": ("ihlen", "hanson"),
    }


def test_upper_and_lower_case_are_one(tree: Path) -> None:
    (tree / "hanson").rename(tree / "Hanson")
    assert names(tree, incomplete=True) == ["Hanson", "merom"]


def test_buildings_that_are_missing_are_told(tree: Path) -> None:
    found = message(tree)
    assert found.startswith(f"{tree}: 23 of the 25 buildings of the train split are not there: klickitat, onaga")
    assert "(there are: darden, hanson, ihlen, merom); get them, or set plugins.taskonomy.incomplete = true" in found


def test_no_building_at_all_is_always_told(tree: Path) -> None:
    (tree / "ihlen").rename(tree / "ihlem")
    found = message(tree, "test", incomplete=True)
    assert "5 of the 5 buildings of the test split are not there" in found
    assert 'did you mean "ihlem"' in found


def test_buildings_are_left_out(tree: Path) -> None:
    assert names(tree, incomplete=True, leave_out=("Hanson",)) == ["merom"]
    assert message(tree, leave_out=("hansom",)).endswith(
        "the subset has no building 'hansom'; did you mean \"hanson\"?"
    )


def test_other_subsets_need_a_file() -> None:
    with pytest.raises(DataError, match=r"subset full are in the publishers' splits_full\.csv; get .*split_file"):
        buildings_of("full", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "begins with nothing, expected the header id,train,val,test"),
        ("hanson,1,0,0\r", "begins with hanson,1,0,0, expected the header"),
        ("id,train,val,test\rhanson,1,0\r", "line 2: hanson,1,0, expected a building and three cells of 0 or 1"),
        ("id,train,val,test\rhanson,1,0,0\rmerom,2,0,0\r", "line 3: merom,2,0,0, expected a building"),
    ],
)
def test_a_file_of_another_form(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "splits_full.csv"
    path.write_text(text, newline="")
    with pytest.raises(DataError) as caught:
        buildings_of("full", path)
    assert str(caught.value).startswith(f"{path}: {expected}")


@pytest.mark.parametrize("case", ["nowhere", "folder", "archive", "bytes"])
def test_a_file_that_cannot_be_read(tmp_path: Path, case: str) -> None:
    path = tmp_path / case
    if case == "folder":
        path.mkdir()
    if case == "archive":
        zipfile.ZipFile(path, "w").close()
    if case == "bytes":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=f"{case}: (cannot be read|no splits_full.csv in it)"):
        buildings_of("full", path)


def test_a_split_without_buildings(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("id,train,val,test\nhanson,1,0,0\n")
    assert (
        message(tree, "test", split_file=str(tmp_path / "mine.csv"))
        == "taskonomy: the split file has no building for test"
    )


def test_a_split_of_another_name(tree: Path) -> None:
    assert "no split 'valid'; did you mean \"val\"? (there are: train, val, test)" in message(tree, "valid")


def test_some_views_of_each_building(tree: Path, trees: SimpleNamespace) -> None:
    """Evenly spaced, so that no part of a building is missing."""
    trees.write(tree, "buildings", [("hanson", point, 0) for point in range(20, 25)], ("rgb",))
    data = Taskonomy(root=str(tree), incomplete=True, views_per_building=3, mask="none").build_dataset("train")
    assert list(data.names or ()) == [
        "hanson/point_0_view_0", "hanson/point_10_view_3", "hanson/point_22_view_0",
        "merom/point_0_view_0", "merom/point_7_view_2",
    ]  # fmt: skip
