"""What data sets share: files, resizing, values and a cache.

``pictures`` and ``arrays`` read files, ``resizing`` changes sizes, ``values`` holds the
rules for a label's values, ``options`` validates options,
``cached`` keeps decoded samples. ``commands`` are ``mtl data show`` and ``mtl data check``.
Names are loaded when they are used: the ``mtl`` command loads ``commands`` and must not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_data.arrays import check_regular, read_array, read_unit_image
    from mtl_data.caching import cached
    from mtl_data.folder import cache_folder
    from mtl_data.options import known_tasks, positive_size
    from mtl_data.pictures import read_picture, read_rgb
    from mtl_data.resizing import resize_image, resize_nearest, resize_normals
    from mtl_data.values import channels_first, metres, unit

_HOMES = {
    "arrays": ("check_regular", "read_array", "read_unit_image"),
    "caching": ("cached",),
    "folder": ("cache_folder",),
    "options": ("known_tasks", "positive_size"),
    "pictures": ("read_picture", "read_rgb"),
    "resizing": ("resize_image", "resize_nearest", "resize_normals"),
    "values": ("channels_first", "metres", "unit"),
}
"""Module → the names that it defines. A test holds this table and the imports above together."""

__all__ = [
    "cache_folder",
    "cached",
    "channels_first",
    "check_regular",
    "known_tasks",
    "metres",
    "positive_size",
    "read_array",
    "read_picture",
    "read_rgb",
    "read_unit_image",
    "resize_image",
    "resize_nearest",
    "resize_normals",
    "unit",
]

_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'mtl_data' has no attribute {name!r}")
    value = getattr(import_module(f"mtl_data.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
