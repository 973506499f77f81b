"""Core's inner parts that tests of plugins drive: a run's hooks, one training step, the trainer.

They are for tests only and may change from one version to the next.
"""

from mtl_core.cli import main
from mtl_core.data import Loadable, collate
from mtl_core.hooks import Hooks
from mtl_core.loop import Trainer, views
from mtl_core.options import read
from mtl_core.plugin import hook_arguments
from mtl_core.progress import Averages
from mtl_core.seam import LossScale, branch, gramian
from mtl_core.session import Session, prepare
from mtl_core.training import BufferGuard, Level, Network, TrainingStep

__all__ = [
    "Averages",
    "BufferGuard",
    "Hooks",
    "Level",
    "Loadable",
    "LossScale",
    "Network",
    "Session",
    "Trainer",
    "TrainingStep",
    "branch",
    "collate",
    "gramian",
    "hook_arguments",
    "main",
    "prepare",
    "read",
    "views",
]
