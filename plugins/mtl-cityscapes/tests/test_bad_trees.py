"""What a person reads when folders or files are not as expected: the path, what was found and expected, what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mtl_cityscapes import Cityscapes
from mtl_core import DataError

H = 32
W = 64
THREE = ("segmentation", "parts", "depth")
AACHEN = "train/aachen/aachen_000000_000019"
Damage = Callable[[Path], Any]


def message(root: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        Cityscapes(root=str(root), **options).build_dataset(split)[0]
    return str(caught.value)


def assert_says(found: str, path: Path, *parts: str) -> None:
    assert found.startswith(f"{path}: ")
    assert "\n" not in found
    assert [part for part in parts if part not in found] == []


def picture(values: Any) -> Damage:
    def damage(path: Path) -> None:
        Image.fromarray(np.asarray(values)).save(path)

    return damage


def array(values: Any) -> Damage:
    def damage(path: Path) -> None:
        np.save(path, values)

    return damage


def written(text: str) -> Damage:
    def damage(path: Path) -> None:
        path.write_text(text, "utf-8")

    return damage


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


GREY = np.full((H, W), 9, np.uint8)
RGB = np.stack([GREY] * 3, -1)
IMAGE = f"leftImg8bit/{AACHEN}_leftImg8bit.png"
IDS = f"gtFine/{AACHEN}_gtFine_labelIds.png"
DISPARITY = f"disparity/{AACHEN}_disparity.png"
CAMERA = f"camera/{AACHEN}_camera.json"
PARTS = f"gtFinePanopticParts/{AACHEN}_gtFinePanopticParts.tif"
PICTURES: dict[str, tuple[str, Damage, tuple[str, ...]]] = {
    "text": (IMAGE, written("no image"), ("cannot be read as an image", "expected an RGB image", "copy it again")),
    "empty": (IDS, empty, ("cannot be read as an image", "expected an 8-bit image", "copy it again")),
    "truncated image": (IMAGE, truncated, ("cannot be read as an image", "expected an RGB image", "copy it again")),
    "truncated label": (IDS, truncated, ("cannot be read as an image", "label ids from 0 to 33", "copy it again")),
    "truncated depth": (DISPARITY, truncated, ("cannot be read as an image", "expected a 16-bit image")),
    "truncated parts": (PARTS, truncated, ("cannot be read as an image", "uids of Panoptic Parts", "copy it again")),
    "16-bit image": (IMAGE, picture(GREY.astype(np.uint16)), ("mode I;16", "expected an RGB image")),
    "colours": (IDS, picture(RGB), ("mode RGB", "label ids from 0 to 33")),
    "instances": (IDS, picture(GREY.astype(np.uint16)), ("mode I;16", "label ids from 0 to 33")),
    "training ids": (IDS, picture(GREY + 246), ("a pixel of 255", "label ids from 0 to 33", "*_labelTrainIds.png")),
    "8-bit depth": (DISPARITY, picture(GREY), ("mode L", "expected a 16-bit image of one channel, raw disparity")),
    "8-bit parts": (PARTS, picture(GREY), ("mode L", "32-bit whole numbers, uids of Panoptic Parts")),
    "three digits": (PARTS, picture(GREY.astype(np.int32) + 100), ("2048 pixels", "does not exist", "the first 109")),
    "an unknown class": (PARTS, picture(GREY.astype(np.int32) + 34), ("the first 43", "a label id from 0 to 33")),
    "eight digits": (PARTS, picture(GREY.astype(np.int32) + 10_000_000), ("the first 10000009", "6 or 7 digits")),
    "negative": (PARTS, picture(GREY.astype(np.int32) - 10), ("the first -1", "does not exist")),
    "smaller": (DISPARITY, picture(GREY[:, :16].astype(np.uint16)), ("32 × 16 pixels", "is 32 × 64 pixels")),
    "no camera": (CAMERA, written("{"), ("cannot be read as a camera", '"intrinsic": {"fx"', "copy it again")),
    "another camera": (CAMERA, written('{"extrinsic": {}}'), ("cannot be read as a camera (KeyError: 'baseline')",)),
    "a list": (CAMERA, written("[1, 2]"), ("cannot be read as a camera", "copy it again")),
    "no baseline": (
        CAMERA, written('{"extrinsic": {"baseline": 0}, "intrinsic": {"fx": 9}}'), ("baseline 0 m", "both above 0")
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PICTURES)
def test_a_file_of_the_official_tree_is_wrong(official: Path, case: str) -> None:
    name, damage, expected = PICTURES[case]
    damage(official / name)
    assert_says(message(official, tasks=THREE, depth="metres"), official / name, *expected)


ONES = np.ones((H, W, 3))
ARRAYS: dict[str, tuple[str, Damage, tuple[str, ...]]] = {
    "text": ("image", written("no"), ("cannot be read as an array", "expected an image (H, W, 3)", "copy it again")),
    "truncated": ("depth", truncated, ("cannot be read as an array", "raw disparity / 65535 (H, W, 1)")),
    "bytes": ("image", array(ONES * 200), ("image values from 200 to 200", "expected 0 to 1", "divide")),
    "not finite": ("image", array(ONES * np.nan), ("image values from nan to nan", "expected 0 to 1")),
    "channels first": ("image", array(ONES.transpose(2, 0, 1)), ("float64 of shape (3, 32, 64)", "(H, W, 3)")),
    "19 of 7 classes": ("label_7", array(ONES[..., 0] * 18), ("2048 pixels of no class, the first 18", "−1", "to 6")),
    "half a class": ("label_7", array(ONES[..., 0] / 2), ("2048 pixels of no class, the first 0.5", "whole numbers")),
    "void as −2": ("label_7", array(ONES[..., 0] * -2), ("2048 pixels of no class, the first -2", "7-class version")),
    "raw disparity": ("depth", array(ONES[..., :1] * 900), ("values up to 900", "65535", "at most 1")),
    "flat depth": ("depth", array(ONES[..., 0]), ("shape (32, 64)", "raw disparity / 65535 (H, W, 1)")),
    "smaller": ("depth", array(ONES[:9, :, :1] / 2), ("9 × 64 pixels", "image 0.npy is 32 × 64 pixels")),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_is_wrong(mtan: Path, case: str) -> None:
    kind, damage, expected = ARRAYS[case]
    path = mtan / "train" / kind / "0.npy"
    damage(path)
    assert_says(message(mtan, classes=7), path, *expected)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    assert_says(message(root), root, "no such folder; set plugins.cityscapes.root to the folder that holds leftImg8bit")
    root.write_text("")
    assert_says(message(root), root, "not a folder; set plugins.cityscapes.root")


def test_a_split_of_another_name(official: Path) -> None:
    assert message(official, "val") == "cityscapes: there is no split 'val' (there are: train, test)"


def test_an_empty_root(tmp_path: Path) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    forms = ("leftImg8bit/train/CITY/*_leftImg8bit.png", "train/image/N.npy", "train/image/N.png", "cityscape.json")
    assert_says(message(root), root, "no images of the train split", *forms)
    (root / "leftImg8bit_trainvaltest.zip").touch()
    assert_says(message(root), root, "unpack the archives here")


@pytest.mark.parametrize("inner", ["leftImg8bit", "leftImg8bit/train", "gtFine"])
def test_a_root_that_is_too_deep(official: Path, inner: str) -> None:
    assert_says(message(official / inner), official / inner, f"; set plugins.cityscapes.root to {official}")


def test_an_archive_as_root(outer: Path) -> None:
    root = outer / "gtFine_trainvaltest"
    assert_says(message(root), root, "no images of the train split", f"; set plugins.cityscapes.root to {outer}")


def test_a_split_of_arrays_as_root(mtan: Path) -> None:
    assert_says(message(mtan / "train"), mtan / "train", f"; set plugins.cityscapes.root to {mtan}")


def test_a_root_that_is_not_deep_enough(official: Path) -> None:
    assert_says(message(official.parent), official.parent, f"; set plugins.cityscapes.root to {official}")


def test_a_split_without_images(official: Path) -> None:
    folder = official / "leftImg8bit" / "train"
    shutil.rmtree(folder)
    assert_says(message(official), folder, "no images of the train split", "unpack leftImg8bit_trainvaltest.zip")
    folder.mkdir()
    assert_says(message(official), folder, "no images of the train split", "unpack leftImg8bit_trainvaltest.zip")
    assert Cityscapes(root=str(official)).build_dataset("test")[0]


def test_an_empty_folder_of_a_city(official: Path) -> None:
    folder = official / "leftImg8bit/train/bochum"
    for path in folder.iterdir():
        path.unlink()
    assert_says(message(official), folder, "no file *_leftImg8bit.png", "unpack leftImg8bit_trainvaltest.zip again")


@pytest.mark.parametrize(
    ("task", "folder", "archive"),
    [
        ("segmentation", "gtFine", "gtFine_trainvaltest.zip"),
        ("depth", "disparity", "disparity_trainvaltest.zip"),
        ("depth", "camera", "camera_trainvaltest.zip"),
        ("parts", "gtFinePanopticParts", "gtFinePanopticParts_trainval.zip"),
    ],
)
def test_a_type_of_label_that_is_not_there(official: Path, task: str, folder: str, archive: str) -> None:
    options: dict[str, Any] = {"tasks": THREE, "depth": "metres"}
    where = official / folder / "train"
    for path in where.glob("*/*"):
        path.unlink()
    parts = (f"expected the labels of the task {task!r}", f"unpack {archive}", f"leave {task!r} out of")
    assert_says(message(official, **options), where, "no label of any of the 4 images", *parts)
    shutil.rmtree(official / folder)
    assert_says(message(official, **options), where, "no such folder", *parts)


def test_a_label_without_an_image(official: Path) -> None:
    (official / f"leftImg8bit/{AACHEN}_leftImg8bit.png").unlink()
    assert_says(message(official), official / IDS, "a label of no image", "copy the images again")


def test_a_file_in_another_citys_folder(official: Path) -> None:
    path = official / "gtFine/train/bochum/aachen_000000_000019_gtFine_labelIds.png"
    (official / IDS).rename(path)
    assert_says(message(official), path, "not a file of bochum", "move it to its city, or remove it")


def test_an_array_without_an_image(mtan: Path) -> None:
    (mtan / "train/image/3.npy").unlink()
    assert_says(message(mtan), mtan / "train/label_19/3.npy", "a label of no image")


def test_arrays_of_the_other_classes(mtan: Path) -> None:
    shutil.rmtree(mtan / "train" / "label_19")
    parts = ("no such folder", "there are labels of 7 classes: set plugins.cityscapes.classes to 7")
    assert_says(message(mtan), mtan / "train/label_19", *parts)
    assert Cityscapes(root=str(mtan), classes=7).build_dataset("train")[0]


def test_arrays_have_neither_parts_nor_cameras(mtan: Path, adashare: Path, repacked: Path) -> None:
    for root in (mtan, adashare):
        assert_says(message(root, tasks=THREE), root, "no parts", "leave 'parts' out of plugins.cityscapes.tasks")
    for root in (mtan, adashare, repacked):
        assert_says(message(root, depth="metres"), root, "no camera files", 'depth = "disparity"')


def test_images_where_the_published_script_puts_them(repacked: Path) -> None:
    """Its first path has no slash: datasetcityscapes/train/image beside dataset/cityscapes."""
    elsewhere = repacked.parent.parent / "datasetcityscapes" / "train"
    elsewhere.mkdir(parents=True)
    shutil.move(repacked / "train" / "image", elsewhere)
    assert_says(
        message(repacked), repacked / "train/image", f"there are some in {elsewhere / 'image'}", "move that folder here"
    )


def test_images_of_several_sizes(official: Path) -> None:
    path = official / "leftImg8bit/train/bochum/bochum_000000_000313_leftImg8bit.png"
    picture(RGB[:16])(path)
    picture(GREY[:16])(official / "gtFine/train/bochum/bochum_000000_000313_gtFine_labelIds.png")
    options: dict[str, Any] = {"root": str(official), "tasks": ("segmentation",)}
    with pytest.raises(DataError) as caught:
        Cityscapes(**options).build_dataset("train")[3]
    assert_says(str(caught.value), path, "16 × 64 pixels", "is 32 × 64 pixels", "set plugins.cityscapes.size")
    assert Cityscapes(**options, size=(8, 16)).build_dataset("train")[3].image.shape == (3, 8, 16)


LISTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "text": ("no list", ("cannot be read as a list", "copy it again")),
    "no split": ({"val": []}, ("no list 'train'", "label2, label7, label19")),
    "nothing": ({"train": []}, ("rows of [] paths", "copy it again")),
    "four": ({"train": [["a.npy"] * 4]}, ("rows of [4] paths", "label2, label7, label19")),
    "numbers": ({"train": 7}, ("cannot be read as a list", "copy it again")),
    "twice": ({"train": [["a.npy"] * 5] * 2}, ("an image is listed twice",)),
    "elsewhere": ({"train": [["a.npy"] * 5]}, ("none of the files of the task 'segmentation' is there", "a.npy")),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_is_wrong(adashare: Path, case: str) -> None:
    content, expected = LISTS[case]
    path = adashare / "cityscape.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    assert_says(message(adashare), path, *expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([IMAGE, IDS, DISPARITY, PARTS, CAMERA]),
    kept=st.floats(0, 1),
    place=st.floats(0, 1),
    changed=st.integers(1, 255),
)
def test_no_damage_raises_anything_else(official: Path, name: str, kept: float, place: float, changed: int) -> None:
    """A file that is cut off and has a changed byte is read, or refused with its path."""
    path = official / name
    whole = path.read_bytes()
    content = bytearray(whole[: max(1, int(kept * len(whole)))])
    spot = min(int(place * len(content)), len(content) - 1)
    content[spot] ^= changed
    path.write_bytes(content)
    try:
        assert path.name in refusal(official)
    finally:
        path.write_bytes(whole)


def refusal(root: Path) -> str:
    """What a reader of damaged files reports; the names of all files where they can be read."""
    try:
        Cityscapes(root=str(root), tasks=THREE, depth="metres").build_dataset("train")[0]
    except DataError as error:
        return str(error)
    return " ".join(path.name for path in root.rglob("*"))
