"""For authors of plugins: a contract class per hook, and factories of tasks, batches, steps and gradients.

A plugin's test class derives from the contract of the hook that it fills and gives a ``plugin`` fixture.
Needs pytest: ``pip install "mtl-core[testing]"``.
"""

from mtl_core.testing.augment_contract import AugmentContract
from mtl_core.testing.contract import PluginContract, failures
from mtl_core.testing.dataset_contract import DatasetContract
from mtl_core.testing.factories import (
    EXAMPLES,
    make_batch,
    make_sample,
    make_step,
    make_target,
    make_tasks,
    masks,
)
from mtl_core.testing.gradients import bank, encoder_gradients, entering
from mtl_core.testing.label_mask_contract import LabelMaskContract
from mtl_core.testing.loss_rule_contract import LossRuleContract
from mtl_core.testing.network_contract import BackboneContract
from mtl_core.testing.regularizer_contract import RegularizerContract
from mtl_core.testing.shaper_contract import GradientShaperContract
from mtl_core.testing.transform_contract import TransformContract
from mtl_core.testing.watcher_contract import GradientWatcherContract
from mtl_core.testing.windows_contract import WindowsContract

__all__ = [
    "EXAMPLES",
    "AugmentContract",
    "BackboneContract",
    "DatasetContract",
    "GradientShaperContract",
    "GradientWatcherContract",
    "LabelMaskContract",
    "LossRuleContract",
    "PluginContract",
    "RegularizerContract",
    "TransformContract",
    "WindowsContract",
    "bank",
    "encoder_gradients",
    "entering",
    "failures",
    "make_batch",
    "make_sample",
    "make_step",
    "make_target",
    "make_tasks",
    "masks",
]
