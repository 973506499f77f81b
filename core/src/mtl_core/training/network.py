"""The shared encoder and one head per task.

Shape letters: N images, C channels, H and W image size.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mtl_core.step.step import Features
from mtl_core.tasks.tasks import Tasks


class Network(nn.Module):
    """The shared encoder and one head per task."""

    def __init__(self, backbone: nn.Module, heads: nn.ModuleDict, tasks: Tasks) -> None:
        super().__init__()
        self.backbone, self.heads, self.tasks = backbone, heads, tasks

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W), float in 0..1 or uint8 → task name → what its head gives."""
        z = self.backbone(as_float(images))
        return self.decode([z] * len(self.tasks))

    def decode(self, branches: list[Features]) -> dict[str, Tensor]:
        """z, once per head → predictions."""
        return {name: decode(name, self.heads[name], z) for name, z in zip(self.tasks.names, branches, strict=True)}


def decode(name: str, head: nn.Module, z: Features) -> Tensor:
    try:
        prediction: Tensor = head(z)
    except RuntimeError as error:
        if "inplace" in str(error):
            error.add_note(f'the head of task "{name}" begins with an in-place operation; its input is a view of z')
        raise
    return prediction


def encoded(backbone: Any, images: Tensor) -> tuple[Features, Tensor]:
    """z and the deepest features: those that the backbone names, or the last level of z."""
    if hasattr(backbone, "with_deepest"):
        answer: tuple[Features, Tensor] = backbone.with_deepest(images)
        return answer
    z: Features = backbone(images)
    return z, z if isinstance(z, Tensor) else z[-1]


def as_float(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float() / 255


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in the tensors' own format, whatever the run's precision."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
