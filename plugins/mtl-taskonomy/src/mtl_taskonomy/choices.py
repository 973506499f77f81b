"""What options may be; without torch, because the plugin's class is imported to list it."""

from __future__ import annotations

from typing import Literal

Subset = Literal["tiny", "medium", "full", "fullplus"]
Convention = Literal["taskonomy", "standley", "plain"]
"""Whose targets: see :mod:`mtl_taskonomy.conventions`."""
DepthForm = Literal["metres", "log", "standley"]
Mask = Literal["depth", "mask_valid", "none"]

SPLITS = ("train", "val", "test")
RANGES = {"occlusion_edges": 0.00625, "texture_edges": 0.08, "keypoints": 0.005}
"""Strength, as a share of 65535, that ``taskonomy`` stretches to 1."""
