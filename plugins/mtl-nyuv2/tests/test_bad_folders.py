"""What a person reads when folders or files are not as expected: the path, what was found and expected, what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mtl_core import DataError
from mtl_data import read_unit_image
from mtl_nyuv2 import NYUv2
from mtl_nyuv2 import arrays as array_files
from mtl_nyuv2 import pictures as picture_files

H = 24
W = 32

Damage = Callable[[Path], Any]
Hit = tuple[float, float, int]
"""How much is cut off, where a byte is changed, and how."""


def message(root: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        NYUv2(root=str(root), **options).build_dataset(split)[0]
    return str(caught.value)


def picture(values: Any) -> Damage:
    def damage(path: Path) -> None:
        Image.fromarray(np.asarray(values)).save(path)

    return damage


def array(values: Any) -> Damage:
    def damage(path: Path) -> None:
        np.save(path, values)

    return damage


def text(path: Path) -> None:
    path.write_text("no image")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, np.zeros((H, W)))


GREY = np.full((H, W), 9, np.uint8)
DAMAGED_PICTURES: dict[str, tuple[str, Damage, tuple[str, ...]]] = {
    "text": ("image", text, ("cannot be read as an image", "expected an RGB image", "copy it again")),
    "empty": ("label", empty, ("cannot be read as an image", "expected an 8-bit image", "copy it again")),
    "truncated": ("depth", truncated, ("cannot be read as an image", "expected a 16-bit image", "copy it again")),
    "16-bit image": ("image", picture(GREY.astype(np.uint16)), ("mode I;16", "expected an RGB image")),
    "colours as label": ("label", picture(np.stack([GREY] * 3, -1)), ("mode RGB", "expected an 8-bit image")),
    "8-bit depth": ("depth", picture(GREY), ("mode L", "expected a 16-bit image of one channel, depth in millimetres")),
    "grey normals": ("normal", picture(GREY), ("mode L", "expected an RGB image of normals")),
    "40 classes": ("label", picture(GREY + 31), ("768 pixels of no class, the first 39", "−1 (unlabelled) to 12")),
    "smaller": ("label", picture(GREY[:, :16]), ("24 × 16 pixels", "image 0000.png is 24 × 32 pixels", "of one size")),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED_PICTURES)
def test_a_picture_is_wrong(pictures: Path, case: str) -> None:
    kind, damage, expected = DAMAGED_PICTURES[case]
    path = pictures / "train" / kind / "0000.png"
    damage(path)
    found = message(pictures)
    assert found.startswith(f"{path}: ")
    assert [part for part in expected if part not in found] == []


ONES = np.ones((H, W, 3), np.float32)
DAMAGED_ARRAYS: dict[str, tuple[str, Damage, tuple[str, ...]]] = {
    "text": ("image", text, ("cannot be read as an array", "expected an image (H, W, 3)", "copy it again")),
    "truncated": ("depth", truncated, ("cannot be read as an array", "expected depth (H, W, 1) in metres")),
    "archive": ("label", archive, ("cannot be read as an array", "expected classes (H, W)")),
    "objects": ("label", array(np.array([[None]])), ("cannot be read as an array", "expected classes (H, W)")),
    "bytes": ("image", array(ONES * 200), ("image values from 200 to 200", "expected 0 to 1", "divide")),
    "not finite": ("image", array(ONES * np.nan), ("image values from nan to nan", "expected 0 to 1")),
    "channels first": ("image", array(ONES.transpose(2, 0, 1)), ("float32 of shape (3, 24, 32)", "expected an image")),
    "two labels": ("label", array(ONES[..., :2]), ("shape (24, 32, 2)", "expected classes (H, W), −1 to 12")),
    "no class": ("label", array(ONES[..., 0] * 13), ("768 pixels of no class, the first 13", "−1 (unlabelled) to 12")),
    "half a class": ("label", array(ONES[..., 0] / 2), ("768 pixels of no class, the first 0.5", "whole numbers")),
    "flat depth": ("depth", array(ONES[..., 0]), ("shape (24, 32)", "expected depth (H, W, 1) in metres")),
    "words": ("normal", array(np.full((H, W, 3), "x")), ("shape (24, 32, 3)", "expected normals (H, W, 3)")),
    "nothing": ("normal", array(ONES[:0]), ("shape (0, 32, 3)", "expected normals (H, W, 3)")),
    "smaller": ("normal", array(ONES[:12]), ("12 × 32 pixels", "its image 0.npy is 24 × 32 pixels", "of one size")),
}


@pytest.mark.parametrize("case", DAMAGED_ARRAYS)
def test_an_array_is_wrong(arrays: Path, case: str) -> None:
    kind, damage, expected = DAMAGED_ARRAYS[case]
    path = arrays / "train" / kind / "0.npy"
    damage(path)
    found = message(arrays)
    assert found.startswith(f"{path}: ")
    assert [part for part in expected if part not in found] == []


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    assert (
        message(root)
        == f"{root}: no such folder; set plugins.nyuv2.root to the folder that holds train and test (or val)"
    )
    root.write_text("")
    assert message(root).startswith(f"{root}: not a folder; set plugins.nyuv2.root")


def test_a_split_that_is_not_there(pictures: Path) -> None:
    shutil.rmtree(pictures / "train")
    found = message(pictures)
    assert found.startswith(f"{pictures}: no images of the train split; expected .jpg or .png files in ")
    assert str(pictures / "train" / "image") in found
    assert NYUv2(root=str(pictures)).build_dataset("test")


def test_a_split_of_another_name(pictures: Path) -> None:
    assert message(pictures, "valid") == "nyuv2: there is no split 'valid' (there are: train, test)"


def test_a_root_that_is_one_split(pictures: Path) -> None:
    assert f"; set plugins.nyuv2.root to {pictures}, the folder above" in message(pictures / "train")


def test_an_empty_folder_of_images(pictures: Path) -> None:
    for path in (pictures / "train" / "image").iterdir():
        path.unlink()
    assert "no images of the train split" in message(pictures)


def test_a_folder_of_labels_that_is_not_there(pictures: Path) -> None:
    shutil.rmtree(pictures / "train" / "normal")
    found = message(pictures)
    assert found.startswith(f"{pictures / 'train' / 'normal'}: no such folder; ")
    assert "leave their task out of plugins.nyuv2.tasks" in found


def test_an_image_without_a_label(pictures: Path) -> None:
    folder = pictures / "train" / "depth"
    (folder / "0001.png").unlink()
    found = message(pictures)
    assert found.startswith(f"{folder}: 2 files, but {pictures / 'train' / 'image'} has 3; image '0001' has none; ")
    assert "copy the folder again" in found


def test_a_label_without_an_image(pictures: Path) -> None:
    (pictures / "train" / "image" / "0001.png").unlink()
    assert "label: 3 files" in message(pictures)
    assert "has 2; '0001' has no image; expected a file of the same name for each image" in message(pictures)


def test_as_many_files_with_other_names(pictures: Path) -> None:
    folder = pictures / "train" / "label"
    (folder / "0002.png").rename(folder / "0003.png")
    assert "image '0002' has none" in message(pictures)


def test_two_files_of_one_name(pictures: Path) -> None:
    path = pictures / "train" / "image" / "0001.png"
    shutil.copy(path, path.with_suffix(".jpg"))
    assert message(pictures) == f"{path}: has the name of 0001.jpg; expected one file per name; remove one"


def test_images_of_several_sizes(pictures: Path) -> None:
    for kind in ("image", "label", "depth", "normal"):
        path = pictures / "train" / kind / "0001.png"
        Image.fromarray(np.asarray(Image.open(path))[:12]).save(path)
    dataset = NYUv2(root=str(pictures)).build_dataset("train")
    with pytest.raises(
        DataError, match=r"0001\.png: 12 × 32 pixels, but 0000\.png is 24 × 32 pixels; .*set plugins\.nyuv2"
    ):
        dataset[1]
    assert NYUv2(root=str(pictures), size=(10, 10)).build_dataset("train")[1].image.shape == (3, 10, 10)


damages = st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 255))
fuzzing = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damaged(path: Path, cut: float, where: float, change: int) -> Path:
    """A copy with one byte changed, and its end cut off in half of the examples."""
    data = bytearray(path.read_bytes())
    data[int(where * (len(data) - 1))] ^= change
    copy = path.with_stem("damaged")
    copy.write_bytes(data if cut < 0.5 else data[: int((cut - 0.5) * 2 * len(data))])
    return copy


def read_or_refuse(read: Callable[[Path], Any], path: Path) -> None:
    """A changed byte may still give a readable file; what may not come is another error than ours."""
    found: Any = None
    try:
        found = read(path)
    except DataError as error:
        found = str(error)
    assert found.startswith(f"{path}: ") if isinstance(found, str) else found.isfinite().all()


@fuzzing
@given(damages)
@pytest.mark.filterwarnings("ignore")  # decoders may warn before they give up
@pytest.mark.parametrize("kind", ["image", "label", "depth", "normal"])
def test_no_damage_to_a_picture_gives_another_error(pictures: Path, kind: str, damage: Hit) -> None:
    path = damaged(pictures / "train" / kind / "0000.png", *damage)
    read_or_refuse(getattr(picture_files, kind), path)


@fuzzing
@given(damages)
@pytest.mark.parametrize("kind", ["image", "label", "depth", "normal"])
@pytest.mark.filterwarnings("ignore")  # numbers out of float's range
def test_no_damage_to_an_array_gives_another_error(arrays: Path, kind: str, damage: Hit) -> None:
    path = damaged(arrays / "train" / kind / "0.npy", *damage)
    read = read_unit_image if kind == "image" else getattr(array_files, kind)
    read_or_refuse(read, path)
