"""Miniature folders: a few images of 24 × 32 pixels with labels of every kind, written as a user would have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mtl_core import MultiTaskDataset
from mtl_folder import Folder

H = 24
W = 32
Array = NDArray[Any]


class Raw:
    """What a sample's files hold, drawn from its name."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(sum(map(ord, name)))
        self.image = rng.integers(256, size=(H, W, 3), dtype=np.uint8)
        self.classes = np.repeat(np.repeat(rng.integers(3, size=(3, 4), dtype=np.uint8), 8, 0), 8, 1)
        self.millimetres = (rng.integers(500, 5000, size=(H, W)) * (np.arange(W) > 2)).astype(np.uint16)
        normal = rng.normal(size=(H, W, 3)) * 0.3 - (0, 0, 1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        normal[:2] = 0
        self.normals = normal.astype(np.float32)
        self.edges = ((rng.random((H, W)) < 0.1) * 255).astype(np.uint8)
        self.heat = rng.random((H, W)).astype(np.float32)


COLOURS = np.array([[0, 0, 0], [128, 64, 0], [0, 200, 50]], np.uint8)


class Tree:
    """A folder that is written file by file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def picture(self, path: str, values: Array, **options: Any) -> Path:
        return self._written(path, lambda target: Image.fromarray(values).save(target, **options))

    def array(self, path: str, values: Array) -> Path:
        return self._written(path, lambda target: np.save(target, values))

    def text(self, path: str, text: str, encoding: str = "utf-8") -> Path:
        return self._written(path, lambda target: target.write_text(text, encoding))

    def describe(self, text: str) -> Path:
        return self.text("mtl-folder.toml", text)

    def _written(self, path: str, write: Callable[[Path], object]) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target)
        return target

    def images(self, *names: str, at: str = "images/{name}.jpg") -> None:
        for name in names:
            self.picture(at.format(name=name), Raw(name.rpartition("/")[2]).image)

    def labels(self, write: Callable[[Raw], Array], *names: str, at: str) -> None:
        """A label for each name, by what ``at`` ends with: picture or array."""
        for name in names:
            values = write(Raw(name.rpartition("/")[2]))
            (self.array if at.endswith(".npy") else self.picture)(at.format(name=name), values)

    def open(self, split: str = "train", **options: Any) -> MultiTaskDataset:
        return Folder(root=str(self.root), **options).build_dataset(split)


NAMES = tuple(f"{i:04d}" for i in range(8))

MASKS = """
[tasks.parts]
kind = "segmentation"
files = "masks/{name}.png"
classes = ["background", "leaf", "stem"]
"""

HEADER = """
images = "images/{name}.jpg"

[splits]
test = 0.25
"""

DENSE = (
    HEADER
    + MASKS
    + """
[tasks.depth]
kind = "depth"
files = "depth/{name}.png"
unit = "mm"

[tasks.normals]
kind = "normals"
files = "normals/{name}.npy"

[tasks.edges]
kind = "edges"
files = "edges/{name}.png"

[tasks.heat]
kind = "regression"
files = "heat/{name}.npy"
"""
)


def write_dense(tree: Tree, names: tuple[str, ...] = NAMES) -> None:
    """Every kind of label per pixel, described by ``DENSE``."""
    tree.images(*names)
    tree.labels(lambda raw: raw.classes, *names, at="masks/{name}.png")
    tree.labels(lambda raw: raw.millimetres, *names, at="depth/{name}.png")
    tree.labels(lambda raw: raw.normals, *names, at="normals/{name}.npy")
    tree.labels(lambda raw: raw.edges, *names, at="edges/{name}.png")
    tree.labels(lambda raw: raw.heat, *names, at="heat/{name}.npy")
    tree.describe(DENSE)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "data")


@pytest.fixture
def dense(tree: Tree) -> Tree:
    write_dense(tree)
    return tree


ROWS = {
    "a.jpg": ("cat", "1.5"), "b.jpg": ("dog", "2.25"), "c.jpg": ("", "3"), "d.jpg": ("cat", ""),
    "e.jpg": ("dog", "0.5"), "f.jpg": ("cat", "4"), "g.jpg": ("", ""), "h.jpg": ("dog", "1"),
}  # fmt: skip

TABLE = """
csv = "labels.csv"
images = "photos/{name}.jpg"

[splits]
test = 0.25

[tasks.species]
kind = "classification"
column = "species"

[tasks.weight]
kind = "image-regression"
column = "weight"
unit = "kg"
"""


def write_table(tree: Tree, rows: Mapping[str, tuple[str, str]] = ROWS) -> None:
    """A CSV with a class and a number per image, described by ``TABLE``."""
    tree.images(*(name.partition(".")[0] for name in rows), at="photos/{name}.jpg")
    lines = [f"{name},{species},{weight}" for name, (species, weight) in rows.items()]
    tree.text("labels.csv", "\n".join(["image,species,weight", *lines]) + "\n")
    tree.describe(TABLE)


@pytest.fixture
def table(tree: Tree) -> Tree:
    write_table(tree)
    return tree
