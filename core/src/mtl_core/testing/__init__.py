"""For authors of plugins: a contract class per hook, and factories of tasks, batches, steps and gradients.

A plugin's test class derives from the contract of the hook that it fills and gives a ``plugin`` fixture.
Needs pytest: ``pip install "mtl-core[testing]"``.
"""

from mtl_core.testing.augment_contract import AugmentContract
from mtl_core.testing.command import command
from mtl_core.testing.contract import Contract, PluginContract, count_views, failures
from mtl_core.testing.dataset_contract import DatasetContract
from mtl_core.testing.epoch_contract import EpochContract
from mtl_core.testing.factories import (
    EXAMPLES,
    make_batch,
    make_sample,
    make_step,
    make_target,
    make_tasks,
    masks,
    with_losses,
)
from mtl_core.testing.gradients import ROWS, bank, encoder_gradients, entering, random_rows
from mtl_core.testing.harness import (
    BlankedDataset,
    BufferGuard,
    EpochMeans,
    Hooks,
    Level,
    LossScale,
    Network,
    Session,
    StepAhead,
    Trainer,
    TrainingStep,
    branch,
    collate,
    gramian,
    hook_arguments,
    main,
    prepare,
    read_options,
)
from mtl_core.testing.kinds import DepthInBins, other_channels
from mtl_core.testing.label_mask_contract import LabelMaskContract
from mtl_core.testing.loss_rule_contract import LossRuleContract
from mtl_core.testing.network_contract import BackboneContract
from mtl_core.testing.opened_files import opened_files
from mtl_core.testing.regularizer_contract import RegularizerContract
from mtl_core.testing.resume_contract import ResumeContract
from mtl_core.testing.shaper_contract import GradientShaperContract
from mtl_core.testing.task_contract import TaskContract
from mtl_core.testing.toys import (
    TOY_TASKS,
    Shapes,
    StubBackbone,
    ToyBackbone,
    ToyData,
    ToyLabels,
    ToyNetwork,
    ToyNormedNetwork,
    ToyShaper,
    ToyWatcher,
    stub_heads,
)
from mtl_core.testing.transform_contract import TransformContract
from mtl_core.testing.watcher_contract import GradientWatcherContract
from mtl_core.testing.windows_contract import WindowsContract

__all__ = [
    "EXAMPLES",
    "ROWS",
    "TOY_TASKS",
    "AugmentContract",
    "BackboneContract",
    "BlankedDataset",
    "BufferGuard",
    "Contract",
    "DatasetContract",
    "DepthInBins",
    "EpochContract",
    "EpochMeans",
    "GradientShaperContract",
    "GradientWatcherContract",
    "Hooks",
    "LabelMaskContract",
    "Level",
    "LossRuleContract",
    "LossScale",
    "Network",
    "PluginContract",
    "RegularizerContract",
    "ResumeContract",
    "Session",
    "Shapes",
    "StepAhead",
    "StubBackbone",
    "TaskContract",
    "ToyBackbone",
    "ToyData",
    "ToyLabels",
    "ToyNetwork",
    "ToyNormedNetwork",
    "ToyShaper",
    "ToyWatcher",
    "Trainer",
    "TrainingStep",
    "TransformContract",
    "WindowsContract",
    "bank",
    "branch",
    "collate",
    "command",
    "count_views",
    "encoder_gradients",
    "entering",
    "failures",
    "gramian",
    "hook_arguments",
    "main",
    "make_batch",
    "make_sample",
    "make_step",
    "make_target",
    "make_tasks",
    "masks",
    "opened_files",
    "other_channels",
    "prepare",
    "random_rows",
    "read_options",
    "stub_heads",
    "with_losses",
]
