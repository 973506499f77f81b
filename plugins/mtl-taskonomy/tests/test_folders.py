"""Every layout is found out from its folders, and what is none is refused by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl_core import DataError
from mtl_taskonomy import Taskonomy
from mtl_taskonomy.folders import find_folders


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_folders(root)
    return str(caught.value)


@pytest.mark.parametrize("layout", ["buildings", "archives", "omnidata", "domains"])
def test_layouts_give_the_same_views(tmp_path: Path, trees: SimpleNamespace, layout: str) -> None:
    root = trees.write(tmp_path / "tree", layout)
    data = Taskonomy(root=str(root), incomplete=True).build_dataset("train")
    assert data.names is not None
    assert list(data.names) == [f"{b}/point_{p}_view_{v}" for b, p, v in trees.views if b in ("hanson", "merom")]
    assert data.labelled is None
    like = Taskonomy(root=str(trees.write(tmp_path / "other", "buildings")), incomplete=True).build_dataset("train")
    assert all(data[3].targets[name].equal(like[3].targets[name]) for name in ("segmentation", "depth", "normals"))


def test_an_archive_of_one_building(tmp_path: Path, trees: SimpleNamespace) -> None:
    """The building has the root's name: files and folders do not give it."""
    root = trees.write(tmp_path / "merom", "one", [("merom", 1, 1)])
    assert {folder.building for folder in find_folders(root).folders} == {"merom"}
    assert len(find_folders(root).folders) == len(trees.folders)


def test_archives_with_outer_folders_of_their_names(tmp_path: Path, trees: SimpleNamespace) -> None:
    for folder in ("rgb", "depth_zbuffer"):
        trees.write(tmp_path / f"hanson_{folder}", "one", [("hanson", 1, 1)], (folder,))
    found = find_folders(tmp_path)
    assert [(f.building, f.domain) for f in found.folders] == [("hanson", "rgb"), ("hanson", "depth_zbuffer")]


def test_layouts_may_be_mixed(tmp_path: Path, trees: SimpleNamespace) -> None:
    """Images as omnitools has them, and labels that somebody put beside each other."""
    trees.write(tmp_path, "omnidata", folders=("rgb",))
    trees.write(tmp_path, "buildings", folders=("normal",))
    data = Taskonomy(root=str(tmp_path), incomplete=True, tasks=("normals",), mask="none").build_dataset("train")
    assert (len(data), data.labelled) == (6, None)


def test_other_data_sets_of_omnidata_are_left_out(tmp_path: Path, trees: SimpleNamespace) -> None:
    trees.write(tmp_path, "omnidata", folders=("rgb",))
    (tmp_path / "rgb" / "replica" / "apartment_0").mkdir(parents=True)
    assert {f.building for f in find_folders(tmp_path).folders} == {"hanson", "merom", "ihlen", "darden"}


def test_other_files_beside_buildings_do_no_harm(tmp_path: Path, trees: SimpleNamespace) -> None:
    trees.write(tmp_path, "omnidata")
    before = find_folders(tmp_path).folders
    for folder in trees.folders:
        (tmp_path / folder / "LICENSE").write_text("terms")
    assert find_folders(tmp_path).folders == before


def test_other_folders_and_hidden_files_do_no_harm(tree: Path) -> None:
    before = find_folders(tree).folders
    (tree / "hanson" / "point_info").mkdir()
    (tree / "hanson" / "point_info" / "point_0_view_0_domain_point_info.json").write_text("{}")
    (tree / "hanson" / "rgb" / "._point_0_view_0_domain_rgb.png").write_bytes(b"a copy's resource fork")
    (tree / ".hidden" / "rgb").mkdir(parents=True)
    (tree / "notes.txt").write_text("mine")
    assert find_folders(tree).folders == before


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    assert refused(root) == f"{root}: no such folder; set plugins.taskonomy.root to the folder that holds Taskonomy"
    root.write_text("")
    assert refused(root).startswith(f"{root}: not a folder; set plugins.taskonomy.root")


def test_an_empty_root(tmp_path: Path) -> None:
    found = refused(tmp_path)
    assert found.startswith(f"{tmp_path}: no folder rgb in it; expected BUILDING/rgb/point_0_view_0_domain_rgb.png")
    assert "set plugins.taskonomy.root to the folder that holds these" in found


def test_a_building_that_is_there_twice(tmp_path: Path, trees: SimpleNamespace) -> None:
    trees.write(tmp_path, "buildings", [("hanson", 0, 0)])
    trees.write(tmp_path, "omnidata", [("hanson", 0, 0)], ("rgb",))
    found = refused(tmp_path)
    assert found.startswith(
        f"{tmp_path}: building hanson has two folders of the domain rgb, hanson/rgb and rgb/taskonomy/"
    )
