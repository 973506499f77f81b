"""Boundaries of a label map, as the field trains on them and as it evaluates with them.

Shape letters: H and W image size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_pascal_context.thinning import Mask, thin

_LabelMap = NDArray[np.integer[Any]]


def training_edges(labels: _LabelMap) -> Mask:
    """What networks of this line of work learn: pixels where the Laplacian of the map is not 0, thinned. bool (H, W).

    Maninis et al., *Attentive Single-Tasking of Multiple Tasks*, CVPR 2019 (their code, and MTI-Net's and ATRC's).
    """
    around = np.pad(labels.astype(np.int64), 1, mode="reflect")
    middle = around[1:-1, 1:-1]
    laplacian = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * middle
    return thin(laplacian != 0)


def benchmark_edges(labels: _LabelMap) -> Mask:
    """What SEISM compares predictions with: pixels that differ from one below or to the right, thinned. bool (H, W).

    Martin, Fowlkes and Malik's boundary map of a segmentation (BSDS benchmark): half a pixel up and left of the true
    line.
    """
    right = labels.copy()
    below = labels.copy()
    beyond = labels.copy()
    right[:, :-1] = labels[:, 1:]
    below[:-1] = labels[1:]
    beyond[:-1, :-1] = labels[1:, 1:]
    return thin((labels != right) | (labels != below) | (labels != beyond))
