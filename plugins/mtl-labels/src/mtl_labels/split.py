"""A split as its file holds it.

Shape letters: N samples, M columns.
"""

from __future__ import annotations

import attrs
from torch import Tensor


@attrs.frozen(eq=False)
class Split:
    """A split as its file holds it.

    :param table: float64 (N, M) or whatever shape the file has
    :param columns: M tasks, or () where the file does not name them
    """

    table: Tensor
    columns: tuple[str, ...] = ()
