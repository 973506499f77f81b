"""Core's inner parts that tests of plugins drive: a run's hooks, one training step, the trainer.

They are for tests only and may change from one version to the next.
"""

from mtl_core.cli import main
from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import collate
from mtl_core.hooks.relay import Hooks
from mtl_core.hooks.spec_table import hook_arguments
from mtl_core.options.read import read_options
from mtl_core.training.branching import LossScale, branch
from mtl_core.training.buffers import BufferGuard
from mtl_core.training.encoder_gradient import Level
from mtl_core.training.epoch import EpochMeans
from mtl_core.training.gramian import gramian
from mtl_core.training.look_ahead import StepAhead
from mtl_core.training.network import Network
from mtl_core.training.session import Session, prepare
from mtl_core.training.step import TrainingStep
from mtl_core.training.trainer import Trainer

__all__ = [
    "BlankedDataset",
    "BufferGuard",
    "EpochMeans",
    "Hooks",
    "Level",
    "LossScale",
    "Network",
    "Session",
    "StepAhead",
    "Trainer",
    "TrainingStep",
    "branch",
    "collate",
    "gramian",
    "hook_arguments",
    "main",
    "prepare",
    "read_options",
]
