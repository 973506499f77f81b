"""One split of Multi-CIFAR-100.

Shape letters: N images, K = 20 domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtl_cifar100.domains import CLASS_OF, CLASSES, DOMAIN_OF
from mtl_cifar100.files import read_split
from mtl_core import Classification, Sample, Tasks

_TASKS = Tasks([Classification(name=name, channels=len(names), classes=names) for name, names in CLASSES.items()])
_ABSENT = -1
"""The label of an image in the nineteen domains that are not its own."""


class MultiCIFAR100:
    """N images, all in memory; each has one label, that of its domain.

    :param root: folder with the original files, or the one around it
    :param split: ``"train"`` or ``"test"``
    :raises DataError: a file is missing or not as the original; it says which
    """

    def __init__(self, root: Path, split: str) -> None:
        self.tasks = _TASKS
        found = read_split(root, split)
        fine = torch.from_numpy(found.fine)
        self.images = torch.from_numpy(found.pixels)
        self.names: Sequence[str] | None = found.names
        self.domains = torch.tensor(DOMAIN_OF)[fine]
        self.classes = torch.tensor(CLASS_OF)[fine]
        self.labelled: Tensor | None = self.domains[:, None] == torch.arange(len(_TASKS))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"cifar100: there is no image {index} of {len(self)}")
        labels = torch.full((len(_TASKS),), _ABSENT)
        labels[self.domains[index]] = self.classes[index]
        return Sample(self.images[index].clone(), dict(zip(self.tasks.names, labels.unbind(), strict=True)))
