"""Multi-CIFAR-100: 50,000 training and 10,000 test images of 32 × 32 pixels in twenty domains of five classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field
from attrs.validators import min_len

from mtl_core import help, hookimpl, plugin

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset

__all__ = ["CIFAR100"]


@plugin
class CIFAR100:
    """Multi-CIFAR-100: CIFAR-100's twenty coarse labels as tasks of five classes; an image has the label of one task.

    Krizhevsky, 2009; as a multi-domain benchmark in Auto-λ (Liu et al., TMLR 2022) and IAL (Tab. VII). Reads the
    original files for Python.
    """

    root: str = field(
        validator=min_len(1), metadata=help("folder with train, test and meta, or that with cifar-100-python in it")
    )

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        from mtl_cifar100.dataset import MultiCIFAR100

        return MultiCIFAR100(Path(self.root).expanduser(), split)
