"""Words in paths that say what files are about, and what a first look at a file shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from mtl_folder.patterns import ARRAYS

_WORDS = {
    "images": "image images img imgs rgb photo photos picture pictures input inputs color colour left leftimg8bit"
    " jpegimages frame frames",
    "segmentation": "mask masks seg segm segmentation segmentations semantic semseg label labels labelids labeltrainids"
    " class classes gt annotation annotations segmentationclass parsing parts trimap trimaps",
    "depth": "depth depths distance distances range",
    "disparity": "disparity disparities disp",
    "normals": "normal normals surface",
    "edges": "edge edges contour contours boundary boundaries",
}
HINTS = {kind: frozenset(words.split()) for kind, words in _WORDS.items()}
"""Kind of task, or images → words of folders and names."""
EVERY_HINT = frozenset[str]().union(*HINTS.values())
_PHOTOGRAPH = 256
"""Colours that a picture of classes hardly has."""
_FEW = 64
"""The same of a JPEG, which is hardly a picture of classes."""


def words_of(text: str) -> set[str]:
    """The words of a path in small letters; ``SegmentationClass`` is two words, and one."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return {word for word in re.split(r"[^a-z0-9]+", f"{text} {spaced}".lower()) if word}


def is_photograph(path: Path) -> bool:
    """Whether a file holds a picture of many colours or grey levels, 8 bits."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("RGB", "RGBA", "L", "CMYK", "YCbCr"):
                return False
            colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
            return len(colours) > (_FEW if picture.format == "JPEG" else _PHOTOGRAPH)
    except Exception:  # damaged files make the decoders raise a dozen kinds of error
        return False


def form_of(path: Path) -> str:
    """How a file stores its values: mode of a picture, or type and number of dimensions of an array."""
    try:
        if path.suffix.lower() in ARRAYS:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
            return f"{values.dtype} {values.ndim}"
        with Image.open(path) as picture:
            return picture.mode
    except Exception:
        return ""
