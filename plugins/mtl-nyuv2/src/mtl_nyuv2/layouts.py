"""The two forms in which NYU-v2 lies on a disk.

Shape letters: H and W image size.

==========  =================================================  ==================================================
            pictures                                           arrays (as published with MTAN and MTPSL)
==========  =================================================  ==================================================
folders     ``{train,test}/{image,label,depth,normal}``        ``{train,val}/{image,label,depth,normal}``
image       JPEG or PNG                                        ``N.npy`` (H, W, 3) in 0..1
label       PNG, 0 unlabelled, 1..13                           ``N.npy`` (H, W), −1 unlabelled, 0..12
depth       16-bit PNG, millimetres, 0 missing                 ``N.npy`` (H, W, 1), metres, 0 missing
normal      PNG, n = (v − 128) / 127, (0, 0, 0) invalid        ``N.npy`` (H, W, 3), zero vector invalid
==========  =================================================  ==================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from torch import Tensor

from mtl_core import DataError
from mtl_nyuv2 import arrays, pictures

FOLDERS = {"segmentation": "label", "depth": "depth", "normals": "normal"}
Reader = Callable[[Path], Tensor]


@attrs.frozen
class Layout:
    """How one form stores a split.

    :param splits: our name of a split → its folder
    :param endings: of its files, lower case
    :param image: reads an image
    :param labels: task → what reads its label
    """

    splits: dict[str, str]
    endings: tuple[str, ...]
    image: Reader
    labels: dict[str, Reader]


PICTURES = Layout(
    splits={"train": "train", "test": "test"},
    endings=(".jpg", ".jpeg", ".png"),
    image=pictures.image,
    labels={"segmentation": pictures.label, "depth": pictures.depth, "normals": pictures.normal},
)
ARRAYS = Layout(
    splits={"train": "train", "test": "val"},
    endings=(".npy",),
    image=arrays.image,
    labels={"segmentation": arrays.label, "depth": arrays.depth, "normals": arrays.normal},
)


def find_layout(root: Path, split: str) -> tuple[Layout, Path]:
    """The form that a root's split has, and its folder; pictures where both are there.

    :raises DataError: there is no such root, or no image of the split in it
    """
    if not root.is_dir():
        found = "not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {found}; set plugins.nyuv2.root to the folder that holds train and test (or val)")
    if split not in PICTURES.splits:
        raise DataError(f"nyuv2: there is no split {split!r} (there are: {', '.join(PICTURES.splits)})")
    for layout in (PICTURES, ARRAYS):
        folder = root / layout.splits[split]
        if (folder / "image").is_dir() and listed(folder / "image", layout.endings):
            return layout, folder
    hint = f"; set plugins.nyuv2.root to {root.parent}, the folder above" if (root / "image").is_dir() else ""
    raise DataError(
        f"{root}: no images of the {split} split; expected .jpg or .png files in {root / split / 'image'}"
        f" or .npy files in {root / ARRAYS.splits[split] / 'image'}{hint}"
    )


def listed(folder: Path, endings: Sequence[str]) -> list[Path]:
    """The folder's files in the order of the numbers in their names; hidden files are left out."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in endings and not p.name.startswith(".")]
    return sorted(found, key=lambda path: ([int(n) for n in re.findall(r"\d+", path.stem)], path.name))


def by_name(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Name without ending → file.

    :raises DataError: there is no such folder, or two files have one name
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected a file in it for each image; without these labels leave their task out"
            " of plugins.nyuv2.tasks"
        )
    files: dict[str, Path] = {}
    for path in listed(folder, endings):
        if files.setdefault(path.stem, path) is not path:
            raise DataError(f"{path}: has the name of {files[path.stem].name}; expected one file per name; remove one")
    return files


def labels_of(images: dict[str, Path], folder: Path, endings: Sequence[str]) -> list[Path]:
    """The file of each image, in the images' order.

    :raises DataError: an image without a label, or a label without an image
    """
    files = by_name(folder, endings)
    lost = [f"image {name!r} has none" for name in images if name not in files]
    alone = [f"{name!r} has no image" for name in files if name not in images]
    if lost or alone:
        beside = folder.parent / "image"
        raise DataError(
            f"{folder}: {len(files)} files, but {beside} has {len(images)}; {(lost + alone)[0]}; expected a file of the"
            " same name for each image; copy the folder again"
        )
    return [files[name] for name in images]
