"""RandAugment with photometric operations, on the training device, on whole batches.

Shape letters: N images (all views), n images that drew one operation.
"""

from __future__ import annotations

import torch
from attrs import field
from attrs.validators import ge, le
from mtl_core.plugin import help, hookimpl, plugin
from torch import Tensor

from mtl_randaugment.operations import OPERATIONS


@plugin
class RandAugment:
    """RandAugment with photometric operations only, so that labels stay valid.

    Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", NeurIPS 2020. Defaults
    as in JTR's released code: two operations per image, magnitudes drawn below 6 of 31.
    """

    operations: int = field(default=2, validator=ge(1), metadata=help("operations per image, one after another"))
    magnitude: int = field(
        default=6, validator=[ge(1), le(31)], metadata=help("magnitudes are drawn from 0 to below this, of 31")
    )

    @hookimpl
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for _ in range(self.operations):
            images = self.one_round(images, generator)
        return images

    def one_round(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One operation for every image. Drawn on the host: which images share an operation is known there."""
        size, device = len(images), images.device
        chosen = torch.randint(len(OPERATIONS), (size,), generator=generator)
        strength = torch.randint(self.magnitude, (size, 1, 1, 1), generator=generator) / 30
        sign = torch.randint(2, (size, 1, 1, 1), generator=generator) * 2 - 1
        changed = images
        for number, operation in enumerate(OPERATIONS.values()):
            own = (chosen == number).nonzero()[:, 0]
            if number and len(own):
                place, m, s = (t.to(device, non_blocking=True) for t in (own, strength[own], sign[own]))
                changed = changed.index_copy(0, place, operation(images.index_select(0, place), m, s))
        return changed
