"""Networks: ``SegNet``, and ``SMP`` for the encoders of segmentation-models-pytorch.

Names are imported when they are used: SegNet needs neither segmentation-models-pytorch nor timm.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_backbones.segnet import SegNet
    from mtl_backbones.smp import SMP

__all__ = ["SMP", "SegNet"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mtl_backbones' has no attribute {name!r}")
    return getattr(import_module(f"mtl_backbones.{name.lower()}"), name)
