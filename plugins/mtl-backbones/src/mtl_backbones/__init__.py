"""Networks: SegNet, VGG-16, the encoders of segmentation-models-pytorch and timm, MTAN and cross-stitch networks.

Names are imported when they are used: only ``SMP``, and dense heads of ``VGG16``, need segmentation-models-pytorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_backbones.cross_stitch import CrossStitch
    from mtl_backbones.mtan import MTAN
    from mtl_backbones.segnet import SegNet
    from mtl_backbones.smp import SMP
    from mtl_backbones.vgg16 import VGG16

_HOMES = {"CrossStitch": "cross_stitch", "MTAN": "mtan", "SMP": "smp", "SegNet": "segnet", "VGG16": "vgg16"}

__all__ = ["MTAN", "SMP", "VGG16", "CrossStitch", "SegNet"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mtl_backbones' has no attribute {name!r}")
    return getattr(import_module(f"mtl_backbones.{_HOMES[name]}"), name)
