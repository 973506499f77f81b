"""The description that ``mtl data init`` guesses: it opens, and its tasks are the ones that are there."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_core import DataError
from mtl_folder.init import describe, look

LETTERS = tuple("abcdefgh")


def guessed(tree: Any) -> dict[str, Any]:
    """The description of a tree, which is written there; it must open."""
    text = describe(tree.root)
    tree.describe(text)
    assert tree.open() is not None, text
    assert tree.open("test") is not None, text
    return tomllib.loads(text)


def kinds(described: dict[str, Any]) -> dict[str, str]:
    return {name: table["kind"] for name, table in described["tasks"].items()}


def segmentation(tree: Any, images: str, masks: str, *names: str) -> None:
    tree.images(*names, at=images)
    tree.labels(lambda raw: raw.classes, *names, at=masks)


def test_labels_of_every_kind(dense: Any) -> None:
    true = [dense.open()[i].targets for i in range(3)]
    found = guessed(dense)
    assert kinds(found) == {
        "depth": "depth", "edges": "edges", "heat": "regression", "segmentation": "segmentation", "normals": "normals",
    }  # fmt: skip
    assert found["tasks"]["depth"]["unit"] == "mm"
    data = dense.open()
    names = {"parts": "segmentation", "depth": "depth", "normals": "normals", "edges": "edges", "heat": "heat"}
    for i, targets in enumerate(true):
        for old, new in names.items():
            assert targets[old].equal(data[i].targets[new]) or targets[old].isnan().any()


def test_a_csv(table: Any) -> None:
    true = table.open().tasks
    found = guessed(table)
    assert kinds(found) == {"species": "classification", "weight": "image-regression"}
    assert found["csv"] == {"file": "labels.csv", "key": "image"}
    assert table.open().tasks["species"] == true["species"]
    assert found["tasks"]["weight"]["mean"] == pytest.approx(2.04)


FORMS: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "folders side by side": (
        lambda tree: segmentation(tree, "JPEGImages/{name}.jpg", "SegmentationClass/{name}.png", *LETTERS),
        "JPEGImages/{name}.jpg",
        "SegmentationClass/{name}.png",
    ),
    "a word behind the name": (
        lambda tree: segmentation(tree, "data/{name}.jpg", "data/{name}_mask.png", *LETTERS),
        "data/{name}.jpg",
        "data/{name}_mask.png",
    ),
    "a word behind both names": (
        lambda tree: segmentation(tree, "{name}_rgb.png", "{name}_seg.png", *LETTERS),
        "{name}_rgb.png",
        "{name}_seg.png",
    ),
    "a word before both names": (
        lambda tree: segmentation(tree, "all/image-{name}.png", "all/mask-{name}.png", *LETTERS),
        "all/image-{name}.png",
        "all/mask-{name}.png",
    ),
    "a word before the name in its own folder": (
        lambda tree: segmentation(tree, "imgs/{name}.jpg", "gt/gt_{name}.png", *LETTERS),
        "imgs/{name}.jpg",
        "gt/gt_{name}.png",
    ),
    "different words in different folders": (
        lambda tree: segmentation(tree, "left/{name}_leftImg8bit.png", "fine/{name}_labelIds.png", *LETTERS),
        "left/{name}_leftImg8bit.png",
        "fine/{name}_labelIds.png",
    ),
    "folders without a hint": (
        lambda tree: segmentation(tree, "one/{name}.png", "two/{name}.png", *LETTERS),
        "one/{name}.png",
        "two/{name}.png",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_names(tree: Any, form: str) -> None:
    write, images, files = FORMS[form]
    write(tree)
    found = guessed(tree)
    assert found["images"] == images
    assert found["tasks"] == {
        "segmentation": {"kind": "segmentation", "files": files, "classes": ["class0", "class1", "class2"]}
    }
    assert tree.open().labelled is None
    assert len(tree.open()) + len(tree.open("test")) == 8


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "val", "test"), {"train": "train", "val": "val", "test": "test"}),
        (("train", "valid", "test"), {"train": "train", "val": "valid", "test": "test"}),
        (("Training", "Testing"), {"train": "Training", "test": "Testing"}),
        (("train", "val"), {"train": "train", "test": "val"}),
        (("train",), {"train": "train", "test": 0.2}),
    ],
)
@pytest.mark.parametrize(
    "at",
    [
        "{folder}/images/{{name}}.jpg {folder}/masks/{{name}}.png",
        "images/{folder}/{{name}}.jpg masks/{folder}/{{name}}.png",
    ],
)
def test_folders_of_splits(tree: Any, folders: tuple[str, ...], splits: dict[str, Any], at: str) -> None:
    for number, folder in enumerate(folders):
        segmentation(tree, *at.format(folder=folder).split(), *(f"{number}{letter}" for letter in LETTERS))
    found = guessed(tree)
    assert found["splits"] == splits
    assert found["images"] == at.format(folder="{split}").split()[0]
    assert found["tasks"]["segmentation"]["files"] == at.format(folder="{split}").split()[1]


def test_several_cities(tree: Any) -> None:
    for split, city in (("train", "aachen"), ("train", "bonn"), ("val", "lindau")):
        segmentation(
            tree, f"left/{split}/{city}/{city}_{{name}}_left.png", f"fine/{split}/{city}/{city}_{{name}}_ids.png",
            "000000", "000001", "000002",
        )  # fmt: skip
    found = guessed(tree)
    assert found["splits"] == {"train": "train", "test": "val"}
    assert len(tree.open()) == 6
    assert tree.open().labelled is None


def test_images_in_folders_of_their_class(tree: Any) -> None:
    for split in ("train", "test"):
        for kind in ("cat", "dog", "owl"):
            tree.images(*(f"{split}{kind}{i}" for i in range(3)), at=f"{split}/{kind}/{{name}}.jpg")
    found = guessed(tree)
    assert found["images"] == "{split}/{folder}/{name}.jpg"
    assert found["tasks"]["class"] == {
        "kind": "classification", "column": "{folder}", "classes": ["cat", "dog", "owl"],
    }  # fmt: skip
    assert tree.open().labelled is None


def test_the_same_names_in_folders_of_classes(tree: Any) -> None:
    for kind in ("cat", "dog"):
        for i in range(6):
            image = np.random.default_rng(i + 10 * len(kind) * (kind == "dog")).integers(256, size=(24, 32, 3))
            tree.picture(f"{kind}/{i}.jpg", image.astype(np.uint8))
    found = guessed(tree)
    assert found["tasks"]["class"]["classes"] == ["cat", "dog"]
    assert len(tree.open()) + len(tree.open("test")) == 12


def test_lists(tree: Any) -> None:
    segmentation(tree, "images/{name}.jpg", "masks/{name}.png", *LETTERS)
    tree.text("ImageSets/train.txt", "\n".join("abcde"))
    tree.text("ImageSets/val.txt", "f\n")
    tree.text("ImageSets/test.txt", "g\nh\n")
    tree.text("readme.txt", "data")
    found = guessed(tree)
    assert found["splits"] == {
        "train": "ImageSets/train.txt", "val": "ImageSets/val.txt", "test": "ImageSets/test.txt",
    }  # fmt: skip
    assert len(tree.open("val")) == 1


def test_a_column_of_splits(table: Any) -> None:
    lines = (table.root / "labels.csv").read_text("utf-8").splitlines()
    sets = ["set", *(["train"] * 5), "valid", "test", "test"]
    table.text("labels.csv", "\n".join(f"{line},{cell}" for line, cell in zip(lines, sets, strict=True)))
    found = guessed(table)
    assert found["splits"] == {"column": "set", "train": "train", "val": "valid", "test": "test"}
    assert set(found["tasks"]) == {"species", "weight"}


def test_a_csv_for_each_split(table: Any) -> None:
    head, *lines = (table.root / "labels.csv").read_text("utf-8").splitlines()
    (table.root / "labels.csv").unlink()
    table.text("labels_train.csv", "\n".join([head, *lines[:5]]))
    table.text("labels_test.csv", "\n".join([head, *lines[5:]]))
    found = guessed(table)
    assert found["csv"] == {"file": "labels_{split}.csv", "key": "image"}
    assert found["splits"] == {"train": "train", "test": "test"}


def test_columns(tree: Any) -> None:
    names = [f"{i:03d}" for i in range(30)]
    tree.images(*names, at="photos/{name}.jpg")
    rows = [
        f'{i};photos/{name}.jpg;note {i};"{i},5";{i % 3};{"NA" if i % 7 == 0 else "ab"[i % 2]};same;{2000 + i * 37}'
        for i, name in enumerate(names)
    ]
    tree.text("table.csv", "\n".join(["id;file;Note;Size (cm);stage;side;source;price", *rows]), "utf-8-sig")
    text = describe(tree.root)
    tree.describe(text)
    found = tomllib.loads(text)
    assert found["csv"]["key"] == "file"
    assert kinds(found) == {
        "size-cm": "image-regression", "stage": "classification", "side": "classification", "price": "image-regression",
    }  # fmt: skip
    assert found["tasks"]["size-cm"]["decimal"] == ","
    assert found["tasks"]["stage"]["classes"] == ["0", "1", "2"]
    assert found["tasks"]["side"]["ignored"] == "NA"
    assert '# column "id": a number of its own for every image, left out' in text
    assert '# column "Note": 30 different texts in 30 rows, left out' in text
    assert '# column "source": one value only, left out' in text
    assert len(tree.open()) == 24


VALUES: dict[str, tuple[Callable[[Any], Any], str, dict[str, Any]]] = {
    "255": (
        lambda raw: np.where(raw.classes == 1, 255, raw.classes // 2).astype(np.uint8),
        "masks/{name}.png",
        {"kind": "segmentation", "classes": ["class0", "class1"], "ignored": 255},
    ),
    "black and white": (
        lambda raw: ((raw.classes > 0) * 255).astype(np.uint8),
        "masks/{name}.png",
        {"kind": "segmentation", "classes": {"background": 0, "object": 255}},
    ),
    "ids from 1": (
        lambda raw: raw.classes + 1,
        "masks/{name}.png",
        {"kind": "segmentation", "classes": {"class1": 1, "class2": 2, "class3": 3}},
    ),
    "ids far apart": (
        lambda raw: raw.classes * 100,
        "masks/{name}.png",
        {"kind": "segmentation", "classes": {"class0": 0, "class100": 100, "class200": 200}},
    ),
    "colours": (
        lambda raw: np.array([[0, 0, 0], [128, 64, 0], [0, 200, 50]], np.uint8)[raw.classes],
        "masks/{name}.png",
        {"kind": "segmentation", "colours": {"class0": "#000000", "class1": "#00c832", "class2": "#804000"}},
    ),
    "an array of ids": (
        lambda raw: raw.classes.astype(np.int64),
        "masks/{name}.npy",
        {"kind": "segmentation", "classes": ["class0", "class1", "class2"]},
    ),
    "depth in metres": (
        lambda raw: raw.millimetres / 1000,
        "depth/{name}.npy",
        {"kind": "depth", "unit": "m"},
    ),
    "depth in millimetres": (
        lambda raw: raw.millimetres.astype(np.float32),
        "depth/{name}.npy",
        {"kind": "depth", "unit": "mm"},
    ),
    "disparity": (
        lambda raw: raw.millimetres,
        "disparity/{name}.png",
        {"kind": "disparity", "scale": 1 / 256},
    ),
    "normals as pictures": (
        lambda raw: np.where(raw.normals.any(-1, keepdims=True), raw.normals * 127 + 128, 0).astype(np.uint8),
        "normals/{name}.png",
        {"kind": "normals"},
    ),
    "normals towards the camera": (
        lambda raw: raw.normals * np.float32(-1),
        "normals/{name}.npy",
        {"kind": "normals", "flip": ["y", "z"]},
    ),
    "edges of 0 and 1": (
        lambda raw: raw.edges // 255,
        "edges/{name}.png",
        {"kind": "edges", "scale": 1},
    ),
    "a map of bytes": (
        lambda raw: (raw.heat * 255).astype(np.uint8),
        "warmth/{name}.png",
        {"kind": "regression", "scale": 1 / 255},
    ),
    "two channels": (
        lambda raw: np.stack((raw.heat, raw.heat), -1),
        "flow/{name}.npy",
        {"kind": "regression", "channels": 2},
    ),
}


@pytest.mark.parametrize("values", VALUES)
def test_values(tree: Any, values: str) -> None:
    write, at, expected = VALUES[values]
    tree.images(*LETTERS)
    tree.labels(write, *LETTERS, at=at)
    found = guessed(tree)
    (table,) = found["tasks"].values()
    assert table.pop("files") == at
    assert table == expected


def test_what_fits_nothing_is_told(tree: Any) -> None:
    segmentation(tree, "images/{name}.jpg", "masks/{name}.png", *LETTERS)
    tree.images(*LETTERS, at="thumbnails/{name}.webp")
    tree.images("x", "y", at="cover/{name}.jpg")
    text = describe(tree.root)
    assert "# thumbnails/{name}.webp: 8 files that fit no kind of label, left out" in text
    assert "# cover/{name}.jpg: 2 files without an image of their name, left out" in text
    assert look(tree.root).summary()[0] == "8 images, 24 × 32 pixels: images/{name}.jpg"


def test_images_of_several_sizes(tree: Any) -> None:
    segmentation(tree, "images/{name}.jpg", "masks/{name}.png", *LETTERS)
    tree.picture("images/a.jpg", np.zeros((10, 20, 3), np.uint8))
    assert "# images have several sizes: set size = [height, width]" in describe(tree.root)
    assert "24 × 32 pixels and 10 × 20 pixels" in look(tree.root).summary()[0]


def test_images_alone(tree: Any) -> None:
    tree.images(*LETTERS)
    text = describe(tree.root)
    assert tomllib.loads(text)["images"] == "images/{name}.jpg"
    assert "# no labels were found: add a table [tasks.NAME] for each task" in text


def test_some_labels_are_missing(tree: Any) -> None:
    tree.images(*LETTERS)
    tree.labels(lambda raw: raw.classes, *LETTERS[:5], at="masks/{name}.png")
    tree.labels(lambda raw: raw.millimetres, *LETTERS[2:], at="depth/{name}.png")
    text = describe(tree.root)
    assert "5 of 8 images have one" in text
    assert "6 of 8 images have one" in text
    guessed(tree)


def test_names_that_toml_must_quote(tree: Any) -> None:
    tree.images("ä b", 'c"d', "e'f", at='Bilder & "mehr"/{name}.jpg')
    tree.text(
        "labels.csv",
        'name,größe "netto"\nä b,1.5\n"c""d",2.5\ne\'f,3.5\n'.replace('größe "netto"', '"größe ""netto"""'),
    )
    found = tomllib.loads(describe(tree.root))
    assert found["images"] == 'Bilder & "mehr"/{name}.jpg'
    (task,) = found["tasks"].values()
    assert task["column"] == 'größe "netto"'


def test_no_folder_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing: no such folder; expected one with images"):
        describe(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(DataError, match=r"no images in it; expected pictures \(\.jpg, \.png …\) or arrays"):
        describe(tmp_path)


def test_damaged_files_do_not_stop_it(tree: Any) -> None:
    segmentation(tree, "images/{name}.jpg", "masks/{name}.png", *LETTERS)
    (tree.root / "images" / "a.jpg").write_bytes(b"no image")
    (tree.root / "masks" / "b.png").write_bytes(b"no mask")
    shutil.copytree(tree.root / "masks", tree.root / "more")
    tree.text("broken.csv", "a,b\n1\n")
    assert "images/{name}.jpg" in describe(tree.root)
