"""Which of the published trees a root holds.

======== =============================================== ===============================================================
tree     images                                          labels
======== =============================================== ===============================================================
official ``leftImg8bit/{split}/{city}/*.png``            ``gtFine``, ``disparity``, ``gtFinePanopticParts``, ``camera``
AdaShare ``cityscape.json`` lists ``.npy`` files         the same
MTAN     ``{train,val}/image/{i}.npy``                   ``label_7`` or ``label``, ``label_19``, ``depth``
Auto-λ   ``{train,val}/image/{i}.png``                   ``seg``, ``part_seg``, ``depth``
======== =============================================== ===============================================================
"""

from __future__ import annotations

from pathlib import Path

from mtl_cityscapes import adashare, mtan, official, repacked
from mtl_cityscapes.files import Files
from mtl_core import DataError

_SPLITS = {"train": "train", "test": "val"}
"""Our name of a split → its folder. The official test split has no labels."""
_TREES = (official.find, adashare.find, mtan.find, repacked.find)


def find_files(root: Path, split: str, tasks: tuple[str, ...], classes: int, metric: bool) -> Files:
    """The files of a split; where a root is of several forms, the first in the table above.

    :param split: ``"train"`` or ``"test"``
    :param metric: camera files are needed
    :raises DataError: there is no such root or split, it has no images, or a whole type of label is missing
    """
    if not root.is_dir():
        found = "not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {found}; set plugins.cityscapes.root to the folder that holds leftImg8bit and gtFine")
    if split not in _SPLITS:
        raise DataError(f"cityscapes: there is no split {split!r} (there are: {', '.join(_SPLITS)})")
    for find in _TREES:
        files = find(root, _SPLITS[split], tasks, classes, metric)
        if files is not None:
            return files
    folder = _SPLITS[split]
    raise DataError(
        f"{root}: no images of the {split} split; expected leftImg8bit/{folder}/CITY/*_leftImg8bit.png (official),"
        f" {folder}/image/N.npy (MTAN), {folder}/image/N.png (Auto-λ) or {adashare.LIST} (AdaShare){_hint(root)}"
    )


def _hint(root: Path) -> str:
    """What else may be meant by a root that has no images."""
    for above in (root.parent, root.parent.parent):
        if official.folders(above, official.IMAGES.folder) or (above / "train" / "image").is_dir():
            return f"; set plugins.cityscapes.root to {above}"
    below = [path for path in sorted(root.glob("*")) if path.is_dir() and official.folders(path, "leftImg8bit")]
    if below:
        return f"; set plugins.cityscapes.root to {below[0]}"
    return "; unpack the archives here" if any(root.glob("*.zip")) else ""
