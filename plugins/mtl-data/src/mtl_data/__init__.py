"""What data sets share: files, resizing, values and a cache.

``pictures`` and ``arrays`` read files, ``resizing`` changes sizes, ``values`` holds the rules for a label's values,
``cached`` keeps decoded samples.
"""

from mtl_data.arrays import read_array
from mtl_data.caching import cached
from mtl_data.folder import cache_folder
from mtl_data.pictures import read_picture, read_rgb
from mtl_data.resizing import resize_image, resize_nearest, resize_normals
from mtl_data.values import channels_first, metres, unit

__all__ = [
    "cache_folder",
    "cached",
    "channels_first",
    "metres",
    "read_array",
    "read_picture",
    "read_rgb",
    "resize_image",
    "resize_nearest",
    "resize_normals",
    "unit",
]
