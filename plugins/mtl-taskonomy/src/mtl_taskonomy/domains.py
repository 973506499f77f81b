"""The domains of Taskonomy: their folders, and the names that they have in file names."""

from __future__ import annotations

import re

import attrs


@attrs.frozen
class _Domain:
    """One kind of file.

    :param folder: name of its folder
    :param written: how file names call it, the published way first
    """

    folder: str
    written: tuple[str, ...]


DOMAINS = (
    _Domain("rgb", ("rgb",)),
    _Domain("segment_semantic", ("segmentsemantic", "segment_semantic")),
    _Domain("depth_zbuffer", ("depth_zbuffer",)),
    _Domain("normal", ("normal",)),
    _Domain("edge_occlusion", ("edge_occlusion",)),
    _Domain("reshading", ("reshading",)),
    _Domain("keypoints2d", ("keypoints2d",)),
    _Domain("edge_texture", ("edge_texture",)),
    _Domain("depth_euclidean", ("depth_euclidean",)),
    _Domain("keypoints3d", ("keypoints3d",)),
    _Domain("principal_curvature", ("principal_curvature",)),
    _Domain("mask_valid", ("mask_valid",)),
)
"""In the order of the index's bits. An index holds their number: another order needs another version of the index."""

BIT = {domain.folder: number for number, domain in enumerate(DOMAINS)}

OTHERS = frozenset(
    {
        "class_object", "class_scene", "fragments", "mask", "nonfixated_matches", "point_info", "points", "rgb_large",
        "segment_instance", "segment_panoptic", "segment_unsup25d", "segment_unsup2d", "semantic",
    }
)  # fmt: skip
"""Folders of domains that are not read: nothing is looked for in them."""

FILE = re.compile(r"^point_(0|[1-9]\d{0,8})_view_(0|[1-9]\d{0,8})_domain_(\w+)\.png$", re.MULTILINE)
"""A file's name: point, view, and what it calls its domain. It is searched for in many names, a line each."""

FOLDER_OF = {
    "segmentation": "segment_semantic",
    "depth": "depth_zbuffer",
    "normals": "normal",
    "occlusion_edges": "edge_occlusion",
    "reshading": "reshading",
    "keypoints": "keypoints2d",
    "texture_edges": "edge_texture",
    "depth_euclidean": "depth_euclidean",
    "keypoints3d": "keypoints3d",
    "principal_curvature": "principal_curvature",
}
"""Task → the folder of its labels; the first seven are those of Nishi et al., CVPR 2024."""

TASKS = tuple(FOLDER_OF)
SEVEN = TASKS[:7]
