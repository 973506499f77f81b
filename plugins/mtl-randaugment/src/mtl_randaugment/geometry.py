"""Joint geometry of image and labels, in the loader's workers.

Shape letters: C channels, H and W image size. Pixel coordinates: x right, y down.
"""

from __future__ import annotations

import math
import os
from typing import Any

import attrs
import cv2
import numpy as np
import torch
from attrs import field
from attrs.validators import deep_iterable, ge, gt, le, min_len
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import Sample, Task, Tasks, help, hookimpl, plugin

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer release
import albumentations.augmentations.geometric.functional as geometric

_Array = NDArray[Any]


@attrs.frozen
class Motion:
    """What is done to one sample.

    :param scale: enlargement
    :param angle: clockwise as displayed, radians
    :param shift: (x, y), −1 to 1, as a share of the room that the scale leaves
    :param mirrored: left and right change places, after all else
    :param offset: (x, y), whole pixels by which the image is moved right and down, after scale and rotation
    """

    scale: float
    angle: float
    shift: tuple[float, float]
    mirrored: bool
    offset: tuple[int, int] = (0, 0)

    def matrix(self, height: int, width: int) -> _Array:
        """Affine map (3, 3) from old to new pixel coordinates, without the mirroring."""
        cx = (width - 1) / 2
        cy = (height - 1) / 2
        c = self.scale * math.cos(self.angle)
        s = self.scale * math.sin(self.angle)
        # the free room between pixel centres: an enlarged image without rotation covers its frame to the last pixel
        dx, dy = (shift * abs(self.scale - 1) * half for shift, half in zip(self.shift, (cx, cy), strict=True))
        return np.array([[c, -s, cx - c * cx + s * cy + dx], [s, c, cy - s * cx - c * cy + dy], [0, 0, 1]])

    @property
    def warps(self) -> bool:
        return self.scale != 1 or self.angle != 0


@plugin
class Geometry:
    """Random scale-crop, mirroring and rotation of images with their labels; labels follow the physics.

    Mirroring flips n_x, a rotation turns (n_x, n_y), enlarging by s divides metric depth by s and multiplies disparity.
    What comes from outside the image is invalid. The scales are those of MTAN (Liu et al., CVPR 2019) and MTPSL;
    ``scales = [1.0]`` with ``padding = 4`` is CIFAR's random crop.
    """

    scales: tuple[float, ...] = field(
        default=(1.0, 1.2, 1.5),
        validator=[min_len(1), deep_iterable([gt(0.0), le(8.0)])],
        metadata=help("enlargements, one is drawn; above 1 a window of the image's size is cut out"),
    )
    flip: float = field(default=0.5, validator=[ge(0.0), le(1.0)], metadata=help("probability of mirroring"))
    rotation: float = field(
        default=0.0, validator=[ge(0.0), le(180.0)], metadata=help("largest rotation to either side, degrees")
    )
    padding: int = field(
        default=0,
        validator=ge(0),
        metadata=help("pixels put around the image before a window of its size is cut out anywhere; 4 for CIFAR"),
    )

    @hookimpl
    def setup(self, tasks: Tasks) -> None:
        self.tasks = tasks

    @hookimpl
    def transform_sample(self, sample: Sample, generator: torch.Generator) -> Sample:
        motion = self.draw(generator)
        image = _moved_image(sample.image, motion)
        targets = {
            name: _moved_label(self.tasks[name], target, motion) if self.tasks[name].dense else target
            for name, target in sample.targets.items()
        }
        return Sample(image, targets)

    def draw(self, generator: torch.Generator) -> Motion:
        size, turn, x, y, mirror = torch.rand(5, generator=generator).tolist()
        scale = self.scales[min(int(size * len(self.scales)), len(self.scales) - 1)]
        angle = math.radians(self.rotation) * (2 * turn - 1)
        return Motion(scale, angle, (2 * x - 1, 2 * y - 1), mirror < self.flip, self._draw_offset(generator))

    def _draw_offset(self, generator: torch.Generator) -> tuple[int, int]:
        if self.padding == 0:  # nothing is drawn, so that runs without padding see the numbers that they always saw
            return 0, 0
        x, y = torch.randint(-self.padding, self.padding + 1, (2,), generator=generator).tolist()
        return x, y


def _moved_image(image: Tensor, motion: Motion) -> Tensor:
    """An image (3, H, W), float or uint8; black outside."""
    if motion.warps:
        image = _warped(image, motion, cv2.INTER_LINEAR, 0.0)
    image = _moved(image, motion.offset, 0.0)
    return image.flip(-1) if motion.mirrored else image


def _moved_label(task: Task, target: Tensor, motion: Motion) -> Tensor:
    """A label (H, W) or (C, H, W), its values changed as the task's physics asks."""
    if motion.warps:
        resample = _smooth if task.interpolation == "bilinear" else _nearest
        target = task.zoom(task.rotate(resample(task, target, motion), motion.angle), motion.scale)
    target = _moved(target, motion.offset, task.ignored)
    return task.flip(target.flip(-1)) if motion.mirrored else target


def _moved(values: Tensor, offset: tuple[int, int], fill: float) -> Tensor:
    """(…, H, W) moved right and down by whole pixels; ``fill`` where nothing came from."""
    if offset == (0, 0):
        return values
    x, y = offset
    height, width = values.shape[-2:]
    made = torch.full_like(values, fill)
    to = _overlap(y, height)
    source = _overlap(-y, height)
    made[..., to, _overlap(x, width)] = values[..., source, _overlap(-x, width)]
    return made


def _overlap(offset: int, size: int) -> slice:
    """Where what was moved by an offset still lies within the image."""
    return slice(min(max(offset, 0), size), max(min(size + offset, size), 0))


def _nearest(task: Task, target: Tensor, motion: Motion) -> Tensor:
    """Classes and values that must not be mixed."""
    return _warped(target, motion, cv2.INTER_NEAREST, task.ignored)


def _smooth(task: Task, target: Tensor, motion: Motion) -> Tensor:
    """Means of valid pixels alone, directions renormalised; invalid where less than half of the weight is valid."""
    valid = task.valid(target[None])[0].to(target.dtype)
    both = _warped(torch.cat((torch.where(valid > 0, target, 0), valid)), motion, cv2.INTER_LINEAR, 0.0)
    share = both[-1:]
    mean = both[:-1] / share.clamp(min=0.5)
    mean = task.mixed(mean[None])[0]
    return torch.where(share >= 0.5, mean, task.blank(mean))


def _warped(values: Tensor, motion: Motion, interpolation: int, fill: float) -> Tensor:
    """(H, W) or (C, H, W) through the motion's matrix; ``fill`` outside."""
    array = values.reshape(-1, *values.shape[-2:]).permute(1, 2, 0).contiguous().numpy()
    known = array.astype(np.int32) if array.dtype == np.int64 else array  # OpenCV has no 64-bit integers
    size = known.shape[:2]
    made = geometric.warp_affine(known, motion.matrix(*size), interpolation, fill, cv2.BORDER_CONSTANT, size)
    return torch.from_numpy(made.astype(array.dtype, copy=False)).permute(2, 0, 1).contiguous().view(values.shape)
