"""RandAugment with photometric operations, on the training device, on whole batches.

Shape letters: N images (all views).
"""

from __future__ import annotations

import attrs
import torch
from attrs import field
from attrs.validators import ge
from torch import Tensor

from mtl_core import help, hookimpl, plugin
from mtl_randaugment.operations import OPERATIONS


@attrs.frozen(eq=False)
class Round:
    """One operation for each of N images, as drawn on the host.

    :param places: (2, N), the order that puts images of one operation side by side, and the way back
    :param strengths: (N, 1, 1, 1), in that order
    :param counts: how many images each operation has
    """

    places: Tensor
    strengths: Tensor
    counts: list[int]


def _within_bins(plugin: RandAugment, attribute: attrs.Attribute[int], value: int) -> None:
    if value > plugin.bins:
        raise ValueError(f"'magnitude' must be <= bins = {plugin.bins}: {value}")


@plugin
class RandAugment:
    """RandAugment with photometric operations only, so that labels stay valid.

    Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", CVPR Workshops 2020,
    with torchvision's magnitudes. Defaults as in JTR's released code: two operations per image, each of a magnitude
    drawn below 6 of 31 (the paper gives all operations one fixed magnitude).
    """

    operations: int = field(default=2, validator=ge(1), metadata=help("operations per image, one after another"))
    magnitude: int = field(
        default=6,
        validator=[ge(1), _within_bins],
        metadata=help("magnitudes are drawn from 0 to below this, of `bins`"),
    )
    bins: int = field(default=31, validator=ge(2), metadata=help("how finely magnitudes are divided"))

    @hookimpl
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for one in self.draw(len(images), generator):
            images = _changed(images, one)
        return images

    def draw(self, size: int, generator: torch.Generator) -> list[Round]:
        """What happens to N images: the host knows how many share an operation, so that the device is never asked."""
        return [self._draw_round(size, generator) for _ in range(self.operations)]

    def _draw_round(self, size: int, generator: torch.Generator) -> Round:
        known = OPERATIONS.values()
        chosen = torch.randint(len(known), (size,), generator=generator)
        magnitude = torch.randint(self.magnitude, (size,), generator=generator)
        sign = 1 - 2 * torch.randint(2, (size,), generator=generator) * torch.tensor([o.signed for o in known])[chosen]
        strengths = sign * torch.stack([o.table(self.bins) for o in known])[chosen, magnitude]
        order = chosen.argsort(stable=True)
        return Round(
            places=torch.stack((order, order.argsort())),
            strengths=strengths[order].view(-1, 1, 1, 1),
            counts=chosen.bincount(minlength=len(known)).tolist(),
        )


def _changed(images: Tensor, one: Round) -> Tensor:
    """(N, 3, H, W) → (N, 3, H, W): every operation runs once, on the images that drew it."""
    order, back = one.places.to(images.device, non_blocking=True)
    strengths = one.strengths.to(images.device, non_blocking=True)
    sorted_images = torch.split(images.index_select(0, order), one.counts)
    parts = zip(OPERATIONS.values(), sorted_images, torch.split(strengths, one.counts), strict=True)
    done = [operation.apply(part, strength) for operation, part, strength in parts if len(part)]
    return torch.cat(done).index_select(0, back)
