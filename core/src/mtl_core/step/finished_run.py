"""A run that has ended, as the hook ``after_run`` is given it.

Shape letters: B images, O_t channels of task t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from mtl_core.data.sample import Batch
from mtl_core.tasks.tasks import Tasks


class Examples(NamedTuple):
    """A few images with what the network predicts for them.

    :param batch: images and labels, on the CPU
    :param predictions: task → (B, O_t, …), as the heads give them
    :param names: of the samples; their positions where they have none
    """

    batch: Batch
    predictions: dict[str, Tensor]
    names: Sequence[str] = ()


class Drawings(NamedTuple):
    """What the plugins draw of a few training images.

    :param batch: images and labels, on the CPU
    :param maps: plugin → title → task → (B, O_t, …), as heads give them
    """

    batch: Batch
    maps: dict[str, dict[str, Mapping[str, Tensor]]]


class FinishedRun(Protocol):
    """A run's folder, and its network to make pictures with."""

    folder: Path
    suffix: str
    """What the names of this evaluation's files end with: empty for what ``mtl train`` evaluates."""
    tasks: Tasks

    def examples(self, count: int) -> Examples | None:
        """Images of the evaluated split, evenly spread over it; None where nothing was evaluated."""
        ...

    def extremes(self, count: int) -> dict[str, Examples]:
        """``"best"`` and ``"worst"`` → images of the evaluated split with the smallest and the largest losses.

        Each task's losses are divided by their mean. Empty where the split has too few images.
        """
        ...

    def drawings(self, count: int) -> Drawings | None:
        """What the hook ``draw_pictures`` gives for training images; None where no plugin has it."""
        ...
