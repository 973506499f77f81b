"""What a person reads when folders or files are not as expected: the path, what was found and expected, what to do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from mtl_core import DataError
from mtl_pascal_context import PascalContext, labels

SIZE = (24, 32)
FIRST = "2008_000002"

Damage = Callable[[Path], Any]


def message(root: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        PascalContext(root=str(root), size=SIZE, **options).build_dataset(split)[0]
    return str(caught.value)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    assert message(root).startswith(
        f"{root}: no such folder; set plugins.pascal-context.root to the folder that PASCAL_MT"
    )
    root.mkdir()
    assert message(root).startswith(f"{root}: no ImageSets/Context in it; set plugins.pascal-context.root")
    file = tmp_path / "file"
    file.touch()
    assert message(file).startswith(f"{file}: not a folder; set")


def test_a_split_of_another_name(tree: Path) -> None:
    assert message(tree, "val") == "pascal-context: there is no split 'val' (there are: train, test)"


LISTS: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "no such file; expected the names of the train images, one a line"),
    "empty": (b"\n \n", "no names in it; expected the names of the train images, one a line"),
    "twice": (b"a\nb\na\n", "'a' stands in it 2 times; expected every name once"),
    "no text": (b"\xff\xfe\x00\x81", "cannot be read as text"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_is_wrong(tree: Path, case: str) -> None:
    content, expected = LISTS[case]
    path = tree / "ImageSets" / "Context" / "train.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert message(tree).startswith(f"{path}: {expected}")


def test_a_list_with_other_line_ends(tree: Path) -> None:
    path = tree / "ImageSets" / "Context" / "train.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert PascalContext(root=str(tree), size=SIZE).build_dataset("train").names[0] == FIRST


FOLDERS = {
    "JPEGImages": ("", ".jpg"),
    "human_parts": ("parts", ".mat"),
    "normals_distill": ("normals", ".png"),
    "sal_distill": ("saliency", ".png"),
    "pascal-context/trainval": ("edges", ".mat"),
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_missing_or_empty(tree: Path, folder: str) -> None:
    task, ending = FOLDERS[folder]
    shutil.rmtree(tree / folder)
    found = message(tree)
    assert found.startswith(
        f"{tree / folder}: no such folder; expected NAME{ending} for every name in ImageSets/Context"
    )
    assert (f'leave "{task}"' in found) == bool(task)
    (tree / folder).mkdir()
    found = message(tree)
    assert found.startswith(f"{tree / folder}: 3 of 3 images have no file, the first is {FIRST}{ending}; expected NAME")
    others = tuple(t for t in ("segmentation", "parts", "saliency") if t != task)
    if task:
        assert PascalContext(root=str(tree), size=SIZE, tasks=others).build_dataset("train")[0].targets.keys() == {
            *others
        }


@pytest.mark.parametrize("folder", FOLDERS)
def test_one_file_is_missing(tree: Path, folder: str) -> None:
    ending = FOLDERS[folder][1]
    (tree / folder / f"2010_004365{ending}").unlink()
    assert f"{tree / folder}: 1 of 3 images have no file, the first is 2010_004365{ending}; " in message(tree)


def test_an_image_without_classes(tree: Path) -> None:
    (tree / "semseg" / "VOC12" / f"{FIRST}.png").unlink()
    found = message(tree)
    assert found.startswith(f"{tree / 'semseg'}: 1 of 3 images have no file, the first is {FIRST}.png; ")
    assert 'leave "segmentation" out' in found


def text(path: Path) -> None:
    path.write_text("no label")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def picture(values: Any) -> Damage:
    return lambda path: Image.fromarray(np.asarray(values)).save(path)


def mat(**variables: Any) -> Damage:
    return lambda path: savemat(path, variables)


GREY = np.full(SIZE, 9, np.uint8)
RGB = np.full((*SIZE, 3), 128, np.uint8)
DAMAGED: dict[str, tuple[str, Damage, tuple[str, ...]]] = {
    "image, text": ("JPEGImages/{}.jpg", text, ("cannot be read as an image", "an RGB image", "copy it again")),
    "image, truncated": ("JPEGImages/{}.jpg", truncated, ("cannot be read as an image", "expected an RGB image")),
    "classes, empty": ("semseg/VOC12/{}.png", empty, ("cannot be read as an image", "0 to 20 the classes, 255 void")),
    "classes, truncated": ("semseg/VOC12/{}.png", truncated, ("cannot be read as an image", "copy it again")),
    "classes, colours": ("semseg/VOC12/{}.png", picture(RGB), ("mode RGB", "expected an 8-bit image with a palette")),
    "classes, 59": ("semseg/VOC12/{}.png", picture(GREY + 50), ("768 pixels of no class, the first 59", "0 to 20")),
    "classes, another size": ("semseg/VOC12/{}.png", picture(GREY[:12]), ("12 × 32 pixels", f"{FIRST}.jpg is 24 × 32")),
    "normals, grey": ("normals_distill/{}.png", picture(GREY), ("mode L", "n = 2 v / 255 − 1")),
    "normals, another size": ("normals_distill/{}.png", picture(RGB[:12]), ("12 × 32 pixels", "label map has 24 × 32")),
    "saliency, colours": ("sal_distill/{}.png", picture(RGB), ("mode RGB", "an 8-bit grey image, salient from 128 on")),
    "saliency, truncated": ("sal_distill/{}.png", truncated, ("cannot be read as an image", "copy it again")),
    "parts, text": ("human_parts/{}.mat", text, ("cannot be read as a MATLAB file", "objects as PASCAL-Part has them")),
    "parts, truncated": ("human_parts/{}.mat", truncated, ("cannot be read as a MATLAB file", "unpack the archive")),
    "parts, a label map": ("human_parts/{}.mat", mat(LabelMap=GREY), ("has no variable anno", "is it another folder")),
    "parts, a number": ("human_parts/{}.mat", mat(anno=3.0), ("anno is not objects as PASCAL-Part has them",)),
    "map, empty": ("pascal-context/trainval/{}.mat", empty, ("cannot be read as a MATLAB file", "a LabelMap (H, W)")),
    "map, other name": ("pascal-context/trainval/{}.mat", mat(labels=GREY), ("has no variable LabelMap",)),
    "map, three axes": ("pascal-context/trainval/{}.mat", mat(LabelMap=RGB), ("uint8 of shape (24, 32, 3), expected",)),
    "map, words": ("pascal-context/trainval/{}.mat", mat(LabelMap="x"), ("a LabelMap (H, W) of whole numbers",)),
    "map, too large": ("pascal-context/trainval/{}.mat", mat(LabelMap=GREY + 500.0), ("from 509 to 509", "up to 459")),
    "map, halves": ("pascal-context/trainval/{}.mat", mat(LabelMap=GREY / 2), ("from 4.5 to 4.5", "whole numbers")),
    "map, another size": ("pascal-context/trainval/{}.mat", mat(LabelMap=GREY.T), ("32 × 24 pixels", "is 24 × 32")),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_file_is_wrong(tree: Path, case: str) -> None:
    pattern, damage, expected = DAMAGED[case]
    path = tree / pattern.format(FIRST)
    damage(path)
    tasks = ("edges",) if case == "map, another size" else ("segmentation", "parts", "normals", "saliency", "edges")
    found = message(tree, tasks=tasks)
    assert found.startswith(f"{path}: ")
    assert [part for part in expected if part not in found] == []
    assert "\n" not in found


def test_a_part_that_nobody_has(tree: Path, write_parts: Callable[..., None]) -> None:
    inside = np.ones(SIZE, bool)
    path = tree / "human_parts" / f"{FIRST}.mat"
    write_parts(path, [("person", 15, inside, [("tail", inside)])])
    assert re.match(rf"{re.escape(str(path))}: a part 'tail' of a person; expected one of hair, head, ", message(tree))


def test_masks_of_two_sizes(tree: Path, write_parts: Callable[..., None]) -> None:
    inside = np.ones(SIZE, bool)
    path = tree / "human_parts" / f"{FIRST}.mat"
    write_parts(path, [("person", 15, inside, [("head", inside[:12])])])
    assert (
        "the mask of head has shape (12, 32), the first person's (24, 32); expected masks of the image's size"
        in message(tree)
    )


damages = st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 255))
fuzzing = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


READERS: dict[str, Callable[[Path], Any]] = {
    "semseg/VOC12/{}.png": labels.read_classes,
    "human_parts/{}.mat": labels.read_parts,
    "sal_distill/{}.png": labels.read_saliency,
    "pascal-context/trainval/{}.mat": labels.read_label_map,
}


@fuzzing
@given(damages)
@pytest.mark.filterwarnings("ignore")  # decoders may warn before they give up
@pytest.mark.parametrize("pattern", READERS)
def test_no_damage_gives_another_error(tree: Path, pattern: str, damage: tuple[float, float, int]) -> None:
    """A changed byte may still give a readable file; what may not come is another error than ours."""
    cut, where, change = damage
    path = tree / pattern.format(FIRST)
    data = bytearray(path.read_bytes())
    data[int(where * (len(data) - 1))] ^= change
    copy = path.with_stem("damaged")
    copy.write_bytes(data if cut < 0.5 else data[: int((cut - 0.5) * 2 * len(data))])
    refusal = f"{copy}: "
    try:
        READERS[pattern](copy)
    except DataError as error:
        refusal = str(error)
    assert refusal.startswith(f"{copy}: ")
