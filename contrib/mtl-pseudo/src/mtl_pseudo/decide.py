"""From what a model gives to labels.

Shape letters: B samples, C classes, k classes that are kept, D instances, H and W image size, h and w that of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_Size = tuple[int, int]


def masks(logits: Tensor, size: _Size, score: float) -> Tensor:
    """The most likely class of every pixel where its probability reaches the score, else −1.

    :param logits: (B, C, …) of any size
    :param size: (H, W)
    :return: long (B, H, W)
    """
    enlarged = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
    best, classes = enlarged.softmax(1).max(1)
    return torch.where(best >= score, classes, torch.full_like(classes, -1))


def instance_masks(
    found: Sequence[Mapping[str, Tensor]], size: _Size, score: float, classes: Mapping[int, int]
) -> Tensor:
    """Instances painted over each other, the surest last; −1 where there is none that reaches the score.

    :param found: for each image labels (D,), scores (D,) and masks (D, 1, H, W), as torchvision's detectors give them
    :param classes: a detector's class → ours; others are left out
    :return: long (B, H, W)
    """
    painted = [torch.full(size, -1) for _ in found]
    for canvas, instances in zip(painted, found, strict=True):
        for place in instances["scores"].argsort().tolist():
            known = classes.get(int(instances["labels"][place]))
            if known is not None and instances["scores"][place] >= score:
                canvas[instances["masks"][place, 0].cpu() > 0.5] = known
    return torch.stack(painted)


def distributions(logits: Tensor) -> Tensor:
    """(B, C)"""
    return logits.float().softmax(1)


def tokens(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The k most likely classes at each place, and their probabilities, which are made to add up to 1.

    :param logits: (B, C, h, w)
    :return: long and float (B, k, h, w)
    """
    shares, classes = logits.float().softmax(1).topk(top, 1)
    return classes, shares / shares.sum(1, keepdim=True)


def at_size(values: Tensor, size: _Size) -> Tensor:
    """Token labels (…, h, w) at an image's size, each pixel its token's."""
    flat = values.reshape(1, -1, *values.shape[-2:]).float()
    return F.interpolate(flat, size, mode="nearest-exact").reshape(*values.shape[:-2], *size)
