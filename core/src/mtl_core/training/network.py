"""The shared encoder and one head per task.

Shape letters: N images, C channels, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from mtl_core.step.step import Features
from mtl_core.tasks.tasks import Tasks


class Network(nn.Module):
    """The shared encoder and one head per task."""

    def __init__(self, backbone: nn.Module, heads: nn.ModuleDict, tasks: Tasks) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads
        self.tasks = tasks
        # a plain list: these modules are parts of the network already
        self._fixed: list[nn.Module] = []
        self._with_deepest: Callable[[Tensor], tuple[Features, Tensor]] | None = None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W), float in 0..1 or uint8 → task name → what its head gives."""
        z = self.backbone(as_float(images))
        return self.decode([z] * len(self.tasks))

    def encode(self, images: Tensor) -> tuple[Features, Tensor]:
        """Images (N, 3, H, W), float → z and the deepest features: those that the backbone names, or z's last level."""
        with_deepest = self._with_deepest or getattr(self.backbone, "with_deepest", None)
        if with_deepest is not None:
            answer: tuple[Features, Tensor] = with_deepest(images)
            return answer
        z: Features = self.backbone(images)
        return z, z if isinstance(z, Tensor) else z[-1]

    def decode(self, branches: list[Features]) -> dict[str, Tensor]:
        """z, once per head → predictions."""
        return {name: _decode(name, self.heads[name], z) for name, z in zip(self.tasks.names, branches, strict=True)}

    def compile_parts(self) -> None:
        """Compile encoder and heads, each in place: checkpoints keep their names, the seam between them stays eager."""
        self.backbone.compile()
        with_deepest: Any = getattr(self.backbone, "with_deepest", None)
        if with_deepest is not None:
            # Module.compile compiles __call__ alone, and a training step calls this method
            self._with_deepest = torch.compile(with_deepest)
        for head in self.heads.values():
            head.compile()

    def fix(self, *modules: nn.Module) -> None:
        """Keep modules of the network in evaluation mode in training too: their statistics do not move."""
        self._fixed += modules
        for module in modules:
            module.eval()

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode, but for what is :meth:`fixed <fix>`."""
        # the trainer calls train() in every epoch
        super().train(mode)
        for module in self._fixed:
            module.eval()
        return self


def _decode(name: str, head: nn.Module, z: Features) -> Tensor:
    try:
        prediction: Tensor = head(z)
    except RuntimeError as error:
        if "inplace" in str(error):
            error.add_note(f'the head of task "{name}" begins with an in-place operation; its input is a view of z')
        raise
    return prediction


def as_float(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float() / 255


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in the tensors' own format, whatever the run's precision."""
    # entering autocast takes longer than an operation: only where there is one to leave
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
