"""The picture files of the official and of Auto-λ's tree, a function per kind of file.

Shape letters: H and W image size.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtl_cityscapes.depths import Camera
from mtl_cityscapes.labels import LAST_ID
from mtl_core import DataError
from mtl_data import read_picture


def read_ids(path: Path) -> Tensor:
    """Label ids 0 to 33, int32 (H, W)."""
    expected = f"an 8-bit image of one channel, label ids from 0 to {LAST_ID}"
    values = read_picture(path, ("L", "P"), expected)
    if values.max() > LAST_ID:
        raise DataError(
            f"{path}: a pixel of {values.max()}, expected {expected}; use the files *_gtFine_labelIds.png, not"
            " *_labelTrainIds.png or *_color.png"
        )
    return torch.from_numpy(values.astype(np.int32))


def read_raw_disparity(path: Path) -> Tensor:
    """Raw disparity, float32 (1, H, W): 0 to 65535, 0 where unknown."""
    values = read_picture(path, ("I;16", "I;16B", "I"), "a 16-bit image of one channel, raw disparity")
    return torch.from_numpy(values.astype(np.float32))[None]


def read_uids(path: Path) -> Tensor:
    """Uids of Panoptic Parts, int32 (H, W)."""
    expected = "a TIFF file of one channel of 32-bit whole numbers, uids of Panoptic Parts"
    values = read_picture(path, ("I",), expected).astype(np.int32)
    sids = np.where(values >= 100_000, values // 100_000, np.where(values >= 1000, values // 1000, values))
    wrong = values[(sids < 0) | (sids > LAST_ID)]
    if wrong.size:
        raise DataError(
            f"{path}: {wrong.size} pixels with a uid that does not exist, the first {wrong[0]}; expected {expected}:"
            f" 1 or 2, 4 or 5, 6 or 7 digits that begin with a label id from 0 to {LAST_ID}"
        )
    return torch.from_numpy(values)


def read_camera(path: Path) -> Camera:
    """Baseline and focal length of one image."""
    expected = 'a camera file of Cityscapes: JSON with "extrinsic": {"baseline": …} and "intrinsic": {"fx": …}'
    try:
        found = json.loads(path.read_text("utf-8"))
        camera = Camera(float(found["extrinsic"]["baseline"]), float(found["intrinsic"]["fx"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: cannot be read as a camera ({reason}); expected {expected}; copy it again") from error
    if not (0 < camera.baseline < float("inf") and 0 < camera.focal < float("inf")):
        raise DataError(f"{path}: baseline {camera.baseline:g} m and fx {camera.focal:g} pixels, expected both above 0")
    return camera
