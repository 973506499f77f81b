"""Normals that do not come with the images: from a folder, or derived from depth by local plane fits.

Shape letters: H and W image size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import DataError
from mtl_nyuv2 import arrays, pictures
from mtl_nyuv2.sources import Source, by_name

_WIDTH = 640
_FOCAL = (518.86, 519.47)
_CENTRE = (325.58, 253.74)
"""Of the colour camera (the data set's toolbox), in pixels of the whole image of 480 × 640: x, y."""
_REACH = 6
"""The fit's window: points up to so many pixels of the whole image away."""
_STEP = 0.1
"""Points whose inverse depth differs by more than this share belong to another surface."""
_LEAST = 8
"""Points that a fit needs."""
_READERS = {".png": pictures.normal, ".npy": arrays.normal}


def _from_depth(depth: Tensor) -> Tensor:
    """Unit normals (3, H, W) in the camera frame (x right, y down, z forward, towards the camera), zero where unknown.

    On a plane n · X = d the inverse depth is linear in the pixel: with the ray r = ((x − cx)/fx, (y − cy)/fy, 1) a
    point is X = z r, and so 1/z = n · r / d. Around each pixel this is fitted to the inverse depths by least squares;
    its three coefficients are −n but for their length. This is a derived label, not the benchmark's.

    :param depth: metres (1, H, W) of the whole image, 0 where missing
    """
    known = depth[0] > 0
    inverse = torch.where(known, 1 / depth[0].clamp(min=1e-6), torch.zeros(())).double()
    fx, fy = (focal * depth.shape[-1] / _WIDTH for focal in _FOCAL)
    a, b, c, points = _fitted(inverse, fx, fy)
    x, y = _rays(depth.shape[-2], depth.shape[-1])
    plane = -torch.stack((a, b, c - a * x - b * y))
    length = plane.norm(dim=0)
    usable = known & (points >= _LEAST) & (length > 0) & length.isfinite()
    return torch.where(usable, plane / length, torch.zeros((), dtype=plane.dtype)).float()


def _rays(height: int, width: int) -> tuple[Tensor, Tensor]:
    """x (1, W) and y (H, 1) of the rays with z = 1 through the pixels' centres."""
    scale = width / _WIDTH
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / scale - 0.5 - _CENTRE[0]
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / scale - 0.5 - _CENTRE[1]
    return (x / _FOCAL[0])[None], (y / _FOCAL[1])[:, None]


def _fitted(inverse: Tensor, fx: float, fy: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least squares of a linear function over each pixel's window, in coordinates that begin at the pixel.

    :param inverse: inverse depth (H, W), 0 where missing
    :return: slopes in x and y, the value at the pixel, and the number of points, each (H, W)
    """
    reach = max(2, round(_REACH * inverse.shape[1] / _WIDTH))
    places = range(-reach, reach + 1, max(1, reach // 3))
    padded = F.pad(inverse, (reach,) * 4)
    n, su, sv, sz, suu, suv, svv, suz, svz = (torch.zeros_like(inverse) for _ in range(9))
    for dy in places:
        for dx in places:
            z = padded[reach + dy :, reach + dx :][: inverse.shape[0], : inverse.shape[1]]
            w = ((z > 0) & ((z - inverse).abs() <= _STEP * inverse)).double()
            u = dx / fx
            v = dy / fy
            wz = w * z
            n += w
            su += w * u
            sv += w * v
            suu += w * (u * u)
            suv += w * (u * v)
            svv += w * (v * v)
            sz += wz
            suz += wz * u
            svz += wz * v
    m = n.clamp(min=1)
    uu = suu - su * su / m
    uv = suv - su * sv / m
    vv = svv - sv * sv / m
    uz = suz - su * sz / m
    vz = svz - sv * sz / m
    determinant = uu * vv - uv * uv
    flat = determinant <= 1e-6 * (uu * vv)  # all points on one line: no plane
    safe = torch.where(flat, torch.ones_like(determinant), determinant)
    a = (uz * vv - vz * uv) / safe
    b = (vz * uu - uz * uv) / safe
    return a, b, (sz - a * su - b * sv) / m, torch.where(flat, torch.zeros_like(n), n)


@attrs.frozen
class _WithNormals:
    """A source whose normals come from a folder, or are derived from its depth.

    :param source: has depth, where the normals are derived
    :param paths: the file of each image's normals; None: derived
    """

    source: Source
    paths: Sequence[Path] | None

    @property
    def names(self) -> Sequence[str]:
        return self.source.names

    @property
    def files(self) -> Sequence[Path]:
        return [*self.source.files, *(self.paths or ())]

    def image(self, index: int) -> Tensor:
        return self.source.image(index)

    def label(self, task: str, index: int) -> Tensor:
        if task != "normals":
            return self.source.label(task, index)
        if self.paths is None:
            return _from_depth(self.source.label("depth", index))
        path = self.paths[index]
        return _READERS[path.suffix.lower()](path)

    def where(self, index: int, task: str | None = None) -> str:
        if task == "normals":
            return f"normals of {self.source.where(index)}" if self.paths is None else str(self.paths[index])
        return self.source.where(index, task)


def with_normals(source: Source, folder: Path | None, plugin: str) -> Source:
    """The source with normals from a folder, in the same order, or derived from its depth.

    :raises DataError: the folder is missing, or has no file for an image
    """
    if folder is None:
        return _WithNormals(source, None)
    found = by_name(folder, tuple(_READERS), plugin)
    return _WithNormals(source, [_file_of(name, found, folder) for name in source.names])


def _file_of(name: str, found: Mapping[str, Path], folder: Path) -> Path:
    """The file with an image's name, or with its number."""
    if name in found:
        return found[name]
    number = re.search(r"(\d+)$", name)
    same = [path for stem, path in found.items() if number and _ends_in(stem, int(number[1]))]
    if len(same) != 1:
        what = f"{same[0].name} and {same[1].name} are both its" if same else "has none"
        raise DataError(
            f"{folder}: {len(found)} files of normals; image {name!r}: {what}; expected one .png or .npy file for each"
            " image, with the image's name or number"
        )
    return same[0]


def _ends_in(stem: str, number: int) -> bool:
    found = re.search(r"(\d+)$", stem)
    return found is not None and int(found[1]) == number
