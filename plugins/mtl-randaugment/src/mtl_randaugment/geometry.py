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
from mtl_core.data import Sample
from mtl_core.plugin import help, hookimpl, plugin
from mtl_core.tasks import Task, Tasks
from numpy.typing import NDArray
from torch import Tensor

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer release
import albumentations.augmentations.geometric.functional as geometric  # noqa: E402

Array = NDArray[Any]


@attrs.frozen
class Motion:
    """What is done to one sample: enlarged, turned clockwise (radians), moved by a share of the free room, mirrored."""

    scale: float
    angle: float
    shift: tuple[float, float]
    mirrored: bool

    def matrix(self, height: int, width: int) -> Array:
        """Affine map (3, 3) from old to new pixel coordinates, without the mirroring."""
        cx, cy = (width - 1) / 2, (height - 1) / 2
        c, s = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        dx, dy = self.shift[0] * abs(self.scale - 1) * width / 2, self.shift[1] * abs(self.scale - 1) * height / 2
        return np.array([[c, -s, cx - c * cx + s * cy + dx], [s, c, cy - s * cx - c * cy + dy], [0, 0, 1]])

    @property
    def warps(self) -> bool:
        return self.scale != 1 or self.angle != 0


@plugin
class Geometry:
    """Random scale-crop, mirroring and rotation of images with their labels; labels follow the physics.

    Mirroring flips n_x, a rotation turns (n_x, n_y), enlarging by s divides metric depth by s. What comes from outside
    the image is invalid.
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

    @hookimpl
    def setup(self, tasks: Tasks) -> None:
        self.tasks = tasks

    @hookimpl
    def transform_sample(self, sample: Sample, generator: torch.Generator) -> Sample:
        motion = self.draw(generator)
        image = moved_image(sample.image, motion)
        targets = {
            name: moved_label(self.tasks[name], target, motion) if self.tasks[name].dense else target
            for name, target in sample.targets.items()
        }
        return Sample(image, targets)

    def draw(self, generator: torch.Generator) -> Motion:
        size, turn, x, y, mirror = torch.rand(5, generator=generator).tolist()
        scale = self.scales[min(int(size * len(self.scales)), len(self.scales) - 1)]
        angle = math.radians(self.rotation) * (2 * turn - 1)
        return Motion(scale, angle, (2 * x - 1, 2 * y - 1), mirror < self.flip)


def moved_image(image: Tensor, motion: Motion) -> Tensor:
    """An image (3, H, W), float or uint8; black outside."""
    if motion.warps:
        image = warped(image, motion, cv2.INTER_LINEAR, 0.0)
    return image.flip(-1) if motion.mirrored else image


def moved_label(task: Task, target: Tensor, motion: Motion) -> Tensor:
    """A label (H, W) or (C, H, W), its values changed as the task's physics asks."""
    if motion.warps:
        resample = smooth if task.interpolation == "bilinear" else nearest
        target = task.zoom(task.rotate(resample(task, target, motion), motion.angle), motion.scale)
    return task.flip(target.flip(-1)) if motion.mirrored else target


def nearest(task: Task, target: Tensor, motion: Motion) -> Tensor:
    """Classes and values that must not be mixed."""
    return warped(target, motion, cv2.INTER_NEAREST, task.ignored)


def smooth(task: Task, target: Tensor, motion: Motion) -> Tensor:
    """Directions: bilinear over valid pixels, renormalised; invalid where less than half of the weight is valid."""
    valid = task.valid(target[None])[0].to(target.dtype)
    both = warped(torch.cat((torch.where(valid > 0, target, 0), valid)), motion, cv2.INTER_LINEAR, 0.0)
    mean, share = both[:-1], both[-1:]
    unit = torch.nn.functional.normalize(mean, dim=0)
    return torch.where((share > 0.5) & (mean.norm(dim=0) > 0), unit, task.blank(unit))


def warped(values: Tensor, motion: Motion, interpolation: int, fill: float) -> Tensor:
    """(H, W) or (C, H, W) through the motion's matrix; ``fill`` outside."""
    channels = values.unsqueeze(0) if values.ndim == 2 else values
    array = channels.permute(1, 2, 0).contiguous().numpy()
    small = array.astype(np.int16) if array.dtype == np.int64 else array  # OpenCV has no 64-bit integers
    matrix = motion.matrix(array.shape[0], array.shape[1])
    layers = [one_warp(small[..., c], matrix, interpolation, fill) for c in range(small.shape[-1])]
    return torch.from_numpy(np.stack(layers).astype(array.dtype)).reshape(values.shape)


def one_warp(layer: Array, matrix: Array, interpolation: int, fill: float) -> Array:
    made: Array = geometric.warp_affine(
        np.ascontiguousarray(layer), matrix, interpolation, fill, cv2.BORDER_CONSTANT, layer.shape
    )
    return made
