"""Label scenarios: which training sample carries which task's label."""

from mtl_labels.scenarios import Full, HalfLabels, OneLabel, RandomLabels, Unlabelled
from mtl_labels.split_file import SplitFile

__all__ = ["Full", "HalfLabels", "OneLabel", "RandomLabels", "SplitFile", "Unlabelled"]
