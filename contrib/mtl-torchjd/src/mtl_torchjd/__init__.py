"""torchjd's aggregators and scalarizers as plugins of mtl."""

from mtl_torchjd.plugin import TorchJD

__all__ = ["TorchJD"]
