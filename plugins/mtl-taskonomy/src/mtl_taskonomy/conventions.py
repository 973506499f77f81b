"""From what files hold to what a network is trained on: the ranges, statistics and blur of the published codes.

Shape letters: C channels, H and W image size. Maps are float (C, H, W) with NaN where invalid.

``taskonomy``: Zamir et al., CVPR 2018, the configurations in ``taskbank/experiments/final`` of StanfordVL/taskonomy.
They stretch to −1..1; here it is 0..1, so that their L1 is twice ours.
``standley``: Standley et al., *Which Tasks Should Be Learned Together in Multi-task Learning?*, ICML 2020,
``taskonomy_loader.py`` of tstandley/taskgrouping: minus a mean, divided by a deviation.
``plain``: what the files say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_taskonomy.choices import Convention
from mtl_taskonomy.files import WHOLE

_BLUR_WIDTH = 256
"""Width in pixels at which the deviation of the blur of occlusion edges is given."""

_Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each channel, in the units of the files' maps."""

_STANDLEY: dict[str, _Statistics] = {
    "occlusion_edges": ((56.0248 / WHOLE,), (239.1265 / WHOLE,)),
    "keypoints": ((50 / WHOLE,), (100 / WHOLE,)),
    "texture_edges": ((718 / WHOLE,), (1070 / WHOLE,)),
    "reshading": ((0.4962,), (0.2846,)),
    "principal_curvature": (
        ((0.5175 * 255 - 127) / 128, (0.4987 * 255 - 127) / 128),
        (0.1373 * 255 / 128, 0.0359 * 255 / 128),
    ),
}
_TASKBANK: dict[str, _Statistics] = {
    "principal_curvature": (((123.572 - 127) / 128, (120.1 - 127) / 128), (31.922 / 128, 21.658 / 128)),
}


def trained_on(task: str, values: Tensor, convention: Convention, ranges: Mapping[str, float], blur: float) -> Tensor:
    """A map as a convention has it.

    :param values: (C, H, W) as the file has it, at the size of the label
    :param ranges: task → strength that becomes 1, for ``taskonomy``
    :param blur: deviation of the blur of occlusion edges in pixels at a width of 256, for ``taskonomy``; 0 for none
    """
    statistics = {"standley": _STANDLEY, "taskonomy": _TASKBANK, "plain": {}}[convention].get(task)
    if statistics is not None:
        mean, deviation = (torch.tensor(part).view(-1, 1, 1) for part in statistics)
        return (values - mean) / deviation
    if convention != "taskonomy" or task not in ranges:
        return values
    stretched = values / ranges[task]
    if task == "occlusion_edges" and blur > 0:
        # not clipped: lines one pixel wide keep their strength, and the blur brings it down to about 1
        return _blurred(stretched, blur * values.shape[-1] / _BLUR_WIDTH)
    return stretched.clamp(max=1)


def _blurred(values: Tensor, deviation: float) -> Tensor:
    """A Gaussian blur of the valid pixels; what is invalid, or outside, has no part in it."""
    valid = values.isfinite()
    both = torch.cat((torch.where(valid, values, torch.zeros_like(values)), valid.to(values.dtype)))
    radius = max(1, math.ceil(4 * deviation))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / deviation) ** 2)
    kernel = (kernel / kernel.sum()).to(values.dtype)
    rows = F.conv2d(both[:, None], kernel.view(1, 1, -1, 1), padding=(radius, 0))
    total, weight = F.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, radius))[:, 0].chunk(2)
    return torch.where(valid, total / weight.clamp(min=1e-12), torch.full_like(values, math.nan))


def resize_map(values: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean of the valid pixels (bilinear, antialiased); invalid where more than half of a pixel is."""
    if values.shape[-2:] == size:
        return values
    valid = values.isfinite()
    both = torch.cat((torch.where(valid, values, torch.zeros_like(values)), valid.to(values.dtype)))
    total, share = F.interpolate(both[None], size, mode="bilinear", antialias=True)[0].chunk(2)
    return torch.where(share > 0.5, total / share.clamp(min=1e-6), torch.full_like(total, math.nan))
