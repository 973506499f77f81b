"""Multi-task self-training: teachers, pseudo-labels, student."""

from mtl_must.confidence import confident
from mtl_must.plugin import MuST
from mtl_must.pseudo import PseudoLabelled, write_labels

__all__ = ["MuST", "PseudoLabelled", "confident", "write_labels"]
