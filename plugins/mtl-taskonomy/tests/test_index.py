"""The index: compact, listed once, true again after a change, and made by one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from mtl_core import DataError
from mtl_taskonomy import index as indexing
from mtl_taskonomy import keeping
from mtl_taskonomy.index import Index, build, load, save
from mtl_taskonomy.keeping import _BESIDE, _in_cache, open_index


@pytest.fixture(autouse=True)
def half_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as changed a moment ago: no test depends on how fast it runs."""
    monkeypatch.setattr(indexing, "_SETTLED", 1_800_000_000_000)


@pytest.fixture
def settled(tree: Path, trees: SimpleNamespace) -> Path:
    """A tree that has not changed for an hour, and its index."""
    (tree / ".mtl").mkdir()
    trees.age(tree)
    open_index(tree)
    return tree


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose files are listed, in order."""
    paths: list[str] = []
    list_folder = indexing._list_folder

    def noted(root: Path, folder: Any) -> Any:
        paths.append(folder.path)
        return list_folder(root, folder)

    monkeypatch.setattr(indexing, "_list_folder", noted)
    return paths


def views(index: Index) -> list[tuple[str, int, int]]:
    return [(index.buildings[v["building"]], int(v["point"]), int(v["view"])) for v in index.views]


def same(one: Index, two: Index) -> bool:
    return (one.views == two.views).all() and one.folders == two.folders and one.above == two.above


def test_views_are_in_the_order_of_their_numbers(tree: Path, trees: SimpleNamespace) -> None:
    assert views(build(tree)) == sorted(trees.views)


def test_a_view_is_twelve_bytes(tree: Path) -> None:
    assert build(tree).views.itemsize == 12


def test_each_view_has_the_domains_of_its_files(tree: Path, trees: SimpleNamespace) -> None:
    gone = ("hanson", 2, 0)
    alone = ("merom", 7, 2)
    trees.file(tree, "buildings", gone, "normal").unlink()
    trees.file(tree, "buildings", alone, "rgb").unlink()
    index = build(tree)
    assert [v for v, has in zip(views(index), index.having("normal"), strict=True) if not has] == [gone]
    assert [v for v, has in zip(views(index), index.having("rgb"), strict=True) if not has] == [alone]
    assert index.having("depth_zbuffer").all()


def test_a_saved_index_is_the_same(tree: Path, tmp_path: Path) -> None:
    index = build(tree)
    save(index, tmp_path / "index.npz")
    kept = load(tmp_path / "index.npz")
    assert kept is not None
    assert same(kept, index)


def test_it_is_listed_once(settled: Path, listed: list[str]) -> None:
    assert same(open_index(settled), open_index(settled))
    assert listed == []


def test_it_is_kept_beside_the_data(settled: Path) -> None:
    assert (settled / _BESIDE).is_file()
    assert not _in_cache(settled).exists()


def test_it_is_kept_in_the_users_cache_where_the_root_cannot_be_written(
    tree: Path, trees: SimpleNamespace, listed: list[str], capsys: pytest.CaptureFixture[str], cache_folder: Path
) -> None:
    (tree / ".mtl").write_text("a file where the folder would be")
    trees.age(tree)
    open_index(tree)
    made = len(listed)
    assert _in_cache(tree).is_relative_to(cache_folder)
    assert f"index kept in {_in_cache(tree)}" in capsys.readouterr().err
    open_index(tree)
    assert len(listed) == made


def test_it_may_be_kept_in_a_file_of_ones_own(tree: Path, tmp_path: Path) -> None:
    open_index(tree, tmp_path / "mine" / "index.npz")
    assert (tmp_path / "mine" / "index.npz").is_file()
    assert not (tree / _BESIDE).exists()


def test_it_does_without_being_kept(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert len(open_index(tree, tmp_path / "file" / "index.npz").views) == 9
    assert "kept nowhere" in capsys.readouterr().err


def test_it_travels_with_the_data(settled: Path, tmp_path: Path, listed: list[str]) -> None:
    moved = settled.rename(tmp_path / "elsewhere")
    assert len(open_index(moved).views) == 9
    assert listed == []


def test_a_new_file_is_found_and_the_other_folders_are_not_listed(
    settled: Path, trees: SimpleNamespace, listed: list[str]
) -> None:
    new = ("merom", 8, 1)
    trees.write(settled, "buildings", [new], ("rgb", "normal"))
    index = open_index(settled)
    assert listed == ["merom/rgb", "merom/normal"]
    assert views(index) == sorted([*trees.views, new])
    assert same(index, build(settled))


def test_a_removed_file_is_found(settled: Path, trees: SimpleNamespace) -> None:
    trees.file(settled, "buildings", ("hanson", 0, 1), "normal").unlink()
    index = open_index(settled)
    assert index.having("normal").sum() == 8
    assert index.having("rgb").sum() == 9


def test_a_new_building_and_a_new_domain_are_found(settled: Path, trees: SimpleNamespace, listed: list[str]) -> None:
    trees.write(settled, "buildings", [("cosmos", 3, 3)], ("rgb",))
    index = open_index(settled)
    assert listed == ["cosmos/rgb"]
    assert index.buildings == ["cosmos", "darden", "hanson", "ihlen", "merom"]
    assert same(index, build(settled))
    trees.write(settled, "buildings", [("cosmos", 3, 3)], ("normal",))
    assert "cosmos/normal" in [folder.path for folder in open_index(settled).folders]


def test_a_removed_building_is_found(settled: Path) -> None:
    (settled / "darden").rename(settled / ".darden")
    assert open_index(settled).buildings == ["hanson", "ihlen", "merom"]


def test_folders_that_changed_a_moment_ago_are_listed_again(
    tree: Path, trees: SimpleNamespace, listed: list[str]
) -> None:
    """A file that comes in the same tick of the clock does not change the folder's time."""
    trees.age(tree)
    trees.write(tree, "buildings", [("merom", 8, 1)], ("rgb",))
    open_index(tree)
    listed.clear()
    open_index(tree)
    assert listed == ["merom/rgb"]


def test_rebuild_lists_everything_once(
    settled: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch, trees: SimpleNamespace
) -> None:
    monkeypatch.setattr(keeping, "_rebuilt", set())
    open_index(settled, rebuild=True)
    assert len(listed) == 4 * len(trees.folders)
    open_index(settled, rebuild=True)
    assert len(listed) == 4 * len(trees.folders)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nothing", "cut"])
def test_a_damaged_index_is_made_again(settled: Path, damage: bytes | str) -> None:
    place = settled / _BESIDE
    before = load(place)
    whole = place.read_bytes()
    place.write_bytes(whole[:-100] if isinstance(damage, str) else damage)
    assert before is not None
    assert same(open_index(settled), before)
    assert load(place) is not None


def test_an_index_of_another_version_is_made_again(
    settled: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch, trees: SimpleNamespace
) -> None:
    monkeypatch.setattr(indexing, "_VERSION", indexing._VERSION + 1)
    open_index(settled)
    assert len(listed) == 4 * len(trees.folders)


def test_who_waited_reads_what_the_other_made(
    tree: Path, trees: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / ".mtl").mkdir()
    trees.age(tree)
    made = build(tree)
    waits = threading.Event()
    got = []
    monkeypatch.setattr(keeping, "build", lambda *given: pytest.fail("it was made twice"))
    monkeypatch.setattr(keeping, "console", lambda: SimpleNamespace(print=lambda text: waits.set()))
    with FileLock(tree / _BESIDE.with_name(_BESIDE.name + ".lock")):
        thread = threading.Thread(target=lambda: got.append(open_index(tree)))
        thread.start()
        assert waits.wait(60)
        save(made, tree / _BESIDE)
    thread.join(60)
    assert same(got[0], made)


def test_two_processes_at_once(tree: Path) -> None:
    code = f"from pathlib import Path; from mtl_taskonomy.keeping import open_index; open_index(Path({str(tree)!r}))"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    index = load(tree / _BESIDE)
    assert index is not None
    assert len(index.views) == 9
    assert [path.name for path in (tree / ".mtl").iterdir() if path.name.endswith(".part")] == []


def test_a_folder_of_another_domain(tree: Path, trees: SimpleNamespace) -> None:
    folder = trees.folder(tree, "buildings", "hanson", "normal")
    for path in folder.iterdir():
        path.unlink()
    (folder / "point_0_view_0_domain_reshading.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"normal: files of the domain reshading, expected point_0_view_0_domain_normal\.png"
    ):
        build(tree)


def test_folders_without_files(tree: Path, trees: SimpleNamespace) -> None:
    for folder in ("normal", "rgb"):
        for view in trees.views:
            trees.file(tree, "buildings", view, folder).unlink()
        if folder == "normal":
            assert not build(tree).having("normal").any()
    with pytest.raises(
        DataError, match=r"darden/rgb: no images; expected files such as point_0_view_0_domain_rgb\.png"
    ):
        build(tree)


def test_names_of_another_form_are_no_views(tree: Path) -> None:
    for name in (
        "point_007_view_0_domain_rgb.png",
        "point_1_view_1_domain_rgb.PNG.part",
        "._point_1_view_1_domain_rgb.png",
    ):
        (tree / "hanson" / "rgb" / name).write_bytes(b"")
    assert len(build(tree).views) == 9


def test_both_names_of_the_segmentation_are_known(tree: Path) -> None:
    for path in (tree / "hanson" / "segment_semantic").iterdir():
        path.rename(path.with_name(path.name.replace("segmentsemantic", "segment_semantic")))
    index = build(tree)
    assert index.having("segment_semantic").all()
    written = {f.building: f.written for f in index.folders if f.domain == "segment_semantic"}
    assert written == {"hanson": "segment_semantic"} | dict.fromkeys(("merom", "ihlen", "darden"), "segmentsemantic")


def test_large_numbers_keep_apart(tmp_path: Path, trees: SimpleNamespace) -> None:
    some = [("hanson", 123_456_789, 0), ("hanson", 0, 123_456_789), ("hanson", 1, 2)]
    trees.write(tmp_path / "tree", "buildings", some, ("rgb",))
    index = build(tmp_path / "tree")
    assert views(index) == sorted(some)
    assert np.all(np.diff(index.views["building"].astype(int)) >= 0)
    assert os.path.isfile(trees.file(tmp_path / "tree", "buildings", views(index)[2], "rgb"))
