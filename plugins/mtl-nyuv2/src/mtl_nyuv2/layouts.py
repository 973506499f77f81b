"""The forms in which NYU-v2 lies on a disk.

Shape letters: H and W image size.

==========  =================================================  ==================================================
            pictures                                           arrays (as published with MTAN and MTPSL)
==========  =================================================  ==================================================
folders     ``{train,test}/{image,label,depth,normal}``        ``{train,val}/{image,label,depth,normal}``
image       JPEG or PNG                                        ``N.npy`` (H, W, 3) in 0..1
label       PNG, 0 unlabelled, 1..13 (or 40)                   ``N.npy`` (H, W), −1 unlabelled, 0..12 (or 39)
depth       16-bit PNG, millimetres, 0 missing                 ``N.npy`` (H, W, 1), metres, 0 missing
normal      PNG, n = (v − 128) / 127, (0, 0, 0) invalid        ``N.npy`` (H, W, 3), zero vector invalid
==========  =================================================  ==================================================

The others: :mod:`mtl_nyuv2.labelled` (the official file), :mod:`mtl_nyuv2.nyud` (NYUD_MT), :mod:`mtl_nyuv2.frames`
(FastDepth).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs
from torch import Tensor

from mtl_core import DataError
from mtl_data import read_unit_image
from mtl_nyuv2 import arrays, pictures
from mtl_nyuv2.frames import FastDepth
from mtl_nyuv2.labelled import FILE, MatFile
from mtl_nyuv2.normals import with_normals
from mtl_nyuv2.nyud import NYUDMT
from mtl_nyuv2.sources import Folders, Reader, Source, Wanted, by_name, listed

__all__ = ["Wanted", "open_source"]

_FOLDERS = {"segmentation": "label", "depth": "depth", "normals": "normal"}
_SPLITS = ("train", "test")


class _Layout(Protocol):
    def has(self, root: Path, split: str) -> bool:
        """Whether a split lies below a root in this form."""

    def open(self, root: Path, split: str, wanted: Wanted) -> Source:
        """The split.

        :raises DataError: a file is missing or of another form, or the form has no such label
        """


@attrs.frozen
class _SplitFolders:
    """A folder per split and kind, with files of one name for each image.

    :param splits: our name of a split → its folder
    :param endings: of its files, lower case
    :param image: reads an image
    :param segmentation: reads classes, given how many there are
    :param readers: other task → what reads its label
    """

    splits: Mapping[str, str]
    endings: tuple[str, ...]
    image: Reader
    segmentation: Callable[[Path, int], Tensor]
    readers: Mapping[str, Reader]

    def has(self, root: Path, split: str) -> bool:
        folder = root / self.splits[split] / "image"
        return folder.is_dir() and bool(listed(folder, self.endings))

    def open(self, root: Path, split: str, wanted: Wanted) -> Source:
        folder = root / self.splits[split]
        wanted.check(folder, tuple(_FOLDERS))
        images = by_name(folder / "image", self.endings, wanted.plugin)
        own = [task for task in wanted.tasks if task != "normals" or wanted.normals is None]
        labels = {task: self.labels_of(images, folder / _FOLDERS[task], wanted.plugin) for task in own}
        classes: Reader = functools.partial(_read_classes, self.segmentation, wanted.classes)
        readers = {"segmentation": classes, **self.readers}
        source: Source = Folders(list(images), list(images.values()), labels, self.image, readers)
        if "normals" in wanted.tasks and wanted.normals is not None:
            return with_normals(source, wanted.normals, wanted.plugin)
        return source

    def labels_of(self, images: Mapping[str, Path], folder: Path, plugin: str) -> list[Path]:
        """The file of each image, in the images' order.

        :raises DataError: an image without a label, or a label without an image
        """
        files = by_name(folder, self.endings, plugin)
        lost = [f"image {name!r} has none" for name in images if name not in files]
        alone = [f"{name!r} has no image" for name in files if name not in images]
        if lost or alone:
            beside = folder.parent / "image"
            raise DataError(
                f"{folder}: {len(files)} files, but {beside} has {len(images)}; {(lost + alone)[0]}; expected a file of"
                " the same name for each image; copy the folder again"
            )
        return [files[name] for name in images]


def _read_classes(read: Callable[[Path, int], Tensor], count: int, path: Path) -> Tensor:
    return read(path, count)


_PICTURES = _SplitFolders(
    splits={"train": "train", "test": "test"},
    endings=(".jpg", ".jpeg", ".png"),
    image=pictures.image,
    segmentation=pictures.label,
    readers={"depth": pictures.depth, "normals": pictures.normal},
)
_ARRAYS = _SplitFolders(
    splits={"train": "train", "test": "val"},
    endings=(".npy",),
    image=read_unit_image,
    segmentation=arrays.label,
    readers={"depth": arrays.depth, "normals": arrays.normal},
)
_LAYOUTS: tuple[_Layout, ...] = (_PICTURES, _ARRAYS, NYUDMT(), FastDepth(), MatFile())
"""The first that fits is taken."""


def open_source(root: Path, split: str, wanted: Wanted) -> Source:
    """One split in whatever form it lies below a root, or below the outer folder of an archive in it.

    :raises DataError: there is no such root or split, or something is missing in it
    """
    if split not in _SPLITS:
        raise DataError(f"{wanted.plugin}: there is no split {split!r} (there are: {', '.join(_SPLITS)})")
    for place in (root, *_outer_folders(root)):
        for layout in _LAYOUTS:
            if layout.has(place, split):
                return layout.open(place, split, wanted)
    raise _nothing_found(root, split, wanted.plugin)


def _outer_folders(root: Path) -> Sequence[Path]:
    """Folders that an archive may have been unpacked to."""
    if not root.is_dir():
        return ()
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _nothing_found(root: Path, split: str, plugin: str) -> DataError:
    setting = f"set plugins.{plugin}.root to"
    if not root.is_dir():
        found = "not a folder" if root.exists() else "no such folder"
        return DataError(f"{root}: {found}; {setting} the folder that holds train and test (or val)")
    hint = f"; {setting} {root.parent}, the folder above" if (root / "image").is_dir() else ""
    test = _ARRAYS.splits[split]
    return DataError(
        f"{root}: no images of the {split} split; expected .jpg or .png files in {root / split / 'image'}"
        f" or .npy files in {root / test / 'image'}, or {FILE}, or gt_sets and images (NYUD_MT), or .h5 files in"
        f" {root / test}/SCENE (FastDepth){hint}"
    )
