"""The folders of the published archives.

========================================  ========================================================================
``ImageSets/Context/{train,val}.txt``     names of the images, one a line
``JPEGImages/{name}.jpg``                 images
``semseg/VOC12/{name}.png``               classes; where it is absent ``semseg/pascal-context/{name}.png``; without a
                                          folder ``semseg``, classes are made of the label map
``human_parts/{name}.mat``                objects with their parts
``pascal-context/trainval/{name}.mat``    the label map of 459 classes: edges are made of it, and it masks normals
``normals_distill/{name}.png``            normals
``sal_distill/{name}.png``                saliency
========================================  ========================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import attrs

from mtl_core import DataError

_OUTER = ("PASCAL_MT", "PASCALContext")
"""What the archives unpack to: PASCAL_MT.tgz (ASTMT, MTI-Net), PASCALContext.tar.gz (ATRC, InvPT)."""

_SPLITS = {"train": "train", "test": "val"}


@attrs.frozen(eq=False, kw_only=True)
class Files:
    """What one image is read from; None where no task needs it, or where classes are made of the label map."""

    name: str
    image: Path
    classes: Path | None = None
    parts: Path | None = None
    label_map: Path | None = None
    normals: Path | None = None
    saliency: Path | None = None

    @property
    def paths(self) -> list[Path]:
        every = (self.image, self.classes, self.parts, self.label_map, self.normals, self.saliency)
        return [path for path in every if path is not None]


def find_files(root: Path, split: str, tasks: Collection[str]) -> list[Files]:
    """The files of every image of a split.

    :param root: the tree, or the folder that the archive was unpacked in
    :param tasks: what labels are needed for; folders of others need not exist
    :raises DataError: a folder, list or file is missing
    """
    tree = _find_tree(root)
    names = _names_of(tree, split)
    found: dict[str, Sequence[Path]] = {"image": _files_in(tree / "JPEGImages", ".jpg", names)}
    without_pictures = not (tree / "semseg").is_dir()
    if "segmentation" in tasks and not without_pictures:
        found["classes"] = _class_files(tree / "semseg", names)
    if "parts" in tasks:
        found["parts"] = _files_in(tree / "human_parts", ".mat", names, "parts")
    if "normals" in tasks:
        found["normals"] = _files_in(tree / "normals_distill", ".png", names, "normals")
    if "saliency" in tasks:
        found["saliency"] = _files_in(tree / "sal_distill", ".png", names, "saliency")
    mapped = [
        t for t in ("edges", "normals", "segmentation") if t in tasks and (t != "segmentation" or without_pictures)
    ]
    if mapped:
        found["label_map"] = _files_in(tree / "pascal-context" / "trainval", ".mat", names, *mapped)
    return [Files(name=name, **{kind: paths[k] for kind, paths in found.items()}) for k, name in enumerate(names)]


def _find_tree(root: Path) -> Path:
    """The folder with ``ImageSets``: the root, or the archive's outer folder in it."""
    for folder in (root, *(root / outer for outer in _OUTER)):
        if (folder / "ImageSets" / "Context").is_dir():
            return folder
    found = "no ImageSets/Context in it" if root.is_dir() else "not a folder" if root.exists() else "no such folder"
    raise DataError(
        f"{root}: {found}; set plugins.pascal-context.root to the folder that PASCAL_MT.tgz or PASCALContext.tar.gz"
        " was unpacked to"
    )


def _names_of(tree: Path, split: str) -> list[str]:
    """The names of a split's images, in the order of its list."""
    if split not in _SPLITS:
        raise DataError(f"pascal-context: there is no split {split!r} (there are: {', '.join(_SPLITS)})")
    path = tree / "ImageSets" / "Context" / f"{_SPLITS[split]}.txt"
    expected = f"expected the names of the {split} images, one a line"
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; {expected}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); {expected}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: no names in it; {expected}")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}: {name!r} stands in it {count} times; expected every name once")
    return names


def _files_in(folder: Path, ending: str, names: Sequence[str], *tasks: str) -> list[Path]:
    """The file of each name.

    :param tasks: what these labels are for; none for the images themselves
    :raises DataError: the folder, or a name's file, is missing
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_expected_files(ending)}{_remedy(tasks)}")
    known = _listed(folder)
    _check_complete(folder, [name for name in names if name + ending not in known], ending, len(names), tasks)
    return [folder / (name + ending) for name in names]


def _class_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Each name's picture of classes: VOC12's where there is one, else PASCAL-Context's."""
    voc = _listed(folder / "VOC12")
    context = _listed(folder / "pascal-context")
    missing = [name for name in names if f"{name}.png" not in voc and f"{name}.png" not in context]
    _check_complete(folder, missing, ".png", len(names), ("segmentation",))
    return [folder / ("VOC12" if f"{name}.png" in voc else "pascal-context") / f"{name}.png" for name in names]


def _listed(folder: Path) -> set[str]:
    """Names of what is in a folder; nothing where there is no such folder."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _check_complete(folder: Path, missing: Sequence[str], ending: str, of: int, tasks: Sequence[str]) -> None:
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {of} images have no file, the first is {missing[0]}{ending};"
            f" {_expected_files(ending)}{_remedy(tasks)}"
        )


def _expected_files(ending: str) -> str:
    return f"expected NAME{ending} for every name in ImageSets/Context"


def _remedy(tasks: Sequence[str]) -> str:
    again = "; unpack the archive again"
    left_out = " and ".join(f'"{task}"' for task in tasks)
    return again + (f", or leave {left_out} out of plugins.pascal-context.tasks" if tasks else "")
