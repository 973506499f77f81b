"""Small trees in the layout of the published archives."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

Array = NDArray[Any]

H = 24
W = 32
TRAIN = ("2008_000002", "2008_000003", "2010_004365")
TEST = ("2008_000008", "2009_000010")

WALL = 440
GROUND = 189
PERSON_MAP = 284
SKY = 360
CAR = 59
"""Classes of the label maps: walls, persons and cars have normals, ground and sky have none."""


@attrs.frozen(eq=False)
class Raw:
    """What the files of one image hold."""

    image: Array
    label_map: Array
    classes: Array
    normals: Array
    saliency: Array
    objects: list[Any]


def draw(seed: int, size: tuple[int, int] = (H, W), person: bool = True) -> Raw:
    """A wall above the ground, a car, and a person that has a head, a torso and a foot."""
    rng = np.random.default_rng(seed)
    h, w = size
    label_map = np.full(size, WALL, np.uint16)
    label_map[h // 2 :] = GROUND
    label_map[h // 4 : h // 2, : w // 4] = CAR
    inside = np.zeros(size, bool)
    inside[h // 4 : 3 * h // 4, w // 2 : 3 * w // 4] = True
    if person:
        label_map[inside] = PERSON_MAP
    classes = np.zeros(size, np.uint8)
    classes[label_map == CAR] = 7
    classes[label_map == PERSON_MAP] = 15
    classes[0] = 255
    vectors = rng.normal(size=(*size, 3)) * 0.3 + (0, 0, 1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    objects = [an_object("car", 7, label_map == CAR, [])]
    if person:
        objects.append(an_object("person", 15, inside, parts_of(inside)))
    return Raw(
        image=rng.integers(256, size=(h // 8, w // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1),
        label_map=label_map,
        classes=classes,
        normals=np.round((vectors + 1) * 127.5).astype(np.uint8),
        saliency=(inside * 200 + 20).astype(np.uint8),
        objects=objects,
    )


def parts_of(inside: Array) -> list[tuple[str, Array]]:
    """The upper third head, all of it torso and then its hair again, the lowest row a foot."""
    rows = np.flatnonzero(inside.any(1))
    head = inside.copy()
    foot = inside.copy()
    head[rows[len(rows) // 3] :] = False
    foot[: rows[-1]] = False
    return [("head", head), ("torso", inside), ("hair", head), ("lfoot", foot)]


def an_object(name: str, number: int, mask: Array, parts: Sequence[tuple[str, Array]]) -> tuple[Any, ...]:
    """A row of ``anno.objects``: class, class_ind, mask, parts."""
    rows = np.zeros((1, len(parts)), [("part_name", object), ("mask", object)]) if parts else np.zeros((0, 0))
    for k, (part, part_mask) in enumerate(parts):
        rows[0, k] = (part, part_mask.astype(np.uint8))
    return name, np.array([[number]], np.uint8), mask.astype(np.uint8), rows


def save_parts(path: Path, name: str, objects: Sequence[tuple[Any, ...]]) -> None:
    """PASCAL-Part's nested structures, as MATLAB writes them: anno(1,1).objects(1,n).parts(1,m)."""
    kinds = [("class", object), ("class_ind", object), ("mask", object), ("parts", object)]
    rows = np.zeros((1, len(objects)), kinds)
    for k, row in enumerate(objects):
        rows[0, k] = row
    anno = np.zeros((1, 1), [("imname", object), ("objects", object)])
    anno[0, 0] = (name, rows)
    savemat(path, {"anno": anno}, do_compression=True)


def save_classes(path: Path, values: Array) -> None:
    """A palette image, as VOC has them."""
    picture = Image.fromarray(values)
    picture.putpalette([channel for k in range(256) for channel in (k, 255 - k, k // 2)])
    picture.save(path)


def write_image(tree: Path, name: str, raw: Raw, voc: bool) -> None:
    folders = {
        "JPEGImages": ".jpg", "human_parts": ".mat", "pascal-context/trainval": ".mat", "normals_distill": ".png",
        "sal_distill": ".png", "semseg/VOC12": ".png", "semseg/pascal-context": ".png",
    }  # fmt: skip
    paths = {folder: tree / folder / (name + ending) for folder, ending in folders.items()}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(raw.image).save(paths["JPEGImages"], quality=95, subsampling=0)
    save_parts(paths["human_parts"], name, raw.objects)
    savemat(paths["pascal-context/trainval"], {"LabelMap": raw.label_map}, do_compression=True)
    Image.fromarray(raw.normals).save(paths["normals_distill"])
    Image.fromarray(raw.saliency).save(paths["sal_distill"])
    save_classes(paths["semseg/VOC12" if voc else "semseg/pascal-context"], raw.classes)


def write_tree(tree: Path) -> Path:
    """Three training and two test images; the second of each has no person, and its classes are PASCAL-Context's."""
    for split, names in (("train", TRAIN), ("val", TEST)):
        for k, name in enumerate(names):
            raw = draw(len(names) * 10 + k, size=(H, W) if k != 2 else (W, H), person=k != 1)
            write_image(tree, name, raw, voc=k != 1)
        lists = tree / "ImageSets" / "Context"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    return tree


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is kept in the user's cache folder stays in the test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def write_parts() -> Callable[[Path, Sequence[tuple[str, int, Array, Sequence[tuple[str, Array]]]]], None]:
    """Writes objects (name, class number, mask, parts) in the form of ``human_parts``."""

    def write(path: Path, objects: Sequence[tuple[str, int, Array, Sequence[tuple[str, Array]]]]) -> None:
        save_parts(path, path.stem, [an_object(*row) for row in objects])

    return write


@pytest.fixture(scope="session")
def raw() -> Callable[[int], Raw]:
    """What the files of training image k hold."""
    return lambda k: draw(len(TRAIN) * 10 + k, size=(H, W) if k != 2 else (W, H), person=k != 1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree as PASCAL_MT.tgz gives it."""
    return write_tree(tmp_path / "PASCAL_MT")


@pytest.fixture(scope="session")
def real() -> Path:
    data = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data"))
    for folder in ("pascal-context", "PASCAL_MT", "PASCALContext"):
        if (data / folder).is_dir():
            return data / folder
    pytest.skip("no PASCAL-Context: set MTL_DATA to a folder with PASCAL_MT/")
