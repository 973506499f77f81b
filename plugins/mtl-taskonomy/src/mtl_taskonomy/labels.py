"""A view's labels, read and brought to the form and size that training wants.

Shape letters: H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor

from mtl_data import resize_nearest, resize_normals
from mtl_taskonomy import files
from mtl_taskonomy.choices import Convention, DepthForm, Mask
from mtl_taskonomy.conventions import resize_map, trained_on
from mtl_taskonomy.tasks import EncodedDepth

_MASK_FOLDER = {"depth": "depth_zbuffer", "mask_valid": "mask_valid"}
_FROM_GEOMETRY = ("normals", "occlusion_edges", "reshading", "keypoints3d", "principal_curvature")
"""Tasks whose labels are rendered from the mesh: where it has holes they mean nothing."""

_READ: dict[str, Callable[[Path], Tensor]] = {
    "segment_semantic": files.read_classes,
    "normal": files.read_normals,
    "edge_occlusion": files.read_strength,
    "edge_texture": files.read_strength,
    "keypoints2d": files.read_strength,
    "keypoints3d": files.read_strength,
    "reshading": files.read_shading,
    "principal_curvature": files.read_curvature,
    "mask_valid": files.read_mask,
}
"""Domain → what its files hold, as a tensor (…, H, W); depths have an option beside."""


@attrs.frozen(kw_only=True)
class Form:
    """How labels are given; the fields are options of the plugin."""

    convention: Convention
    depth: DepthForm
    max_depth: float | None
    ranges: Mapping[str, float]
    blur: float
    mask: Mask

    def mask_folder(self, task: str) -> str | None:
        """The folder of the file that says which pixels of a task's label are valid."""
        return _MASK_FOLDER.get(self.mask) if task in _FROM_GEOMETRY else None

    def read(self, domain: str, path: Path) -> Tensor:
        """What a file holds, (…, H, W); of a mask, above 0 where a pixel is valid."""
        return _READ[domain](path) if domain in _READ else files.read_depth(path, self.max_depth)

    def finish(self, task: str, values: Tensor, valid: Tensor | None, size: tuple[int, int]) -> Tensor:
        """A label as its task defines it.

        :param values: what the file holds
        :param valid: bool (1, H, W), or None where every pixel is
        :param size: (H, W) of the label
        """
        if task == "segmentation":
            return resize_nearest(values, size)
        if task.startswith("depth"):
            return self._encoded(resize_nearest(values, size))
        if task == "normals":
            return resize_normals(values if valid is None else values * valid, size)
        known = values if valid is None else torch.where(valid, values, torch.full_like(values, torch.nan))
        return trained_on(task, resize_map(known, size), self.convention, self.ranges, self.blur)

    def _encoded(self, metres: Tensor) -> Tensor:
        if self.depth == "metres":
            return metres
        encoded = EncodedDepth(name="depth", form=self.depth).from_metres(metres)
        return torch.where(metres > 0, encoded, torch.full_like(encoded, torch.nan))
