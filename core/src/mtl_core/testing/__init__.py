"""For authors of plugins: a contract class per hook, and factories of tasks, batches, steps and gradients.

A plugin's test derives from the contract of the hook that it fills and gives a ``plugin`` fixture; pytest does the rest.
Needs pytest: ``pip install "mtl-core[testing]"``.
"""

from mtl_core.testing.contract import PluginContract, failures
from mtl_core.testing.data_contracts import DatasetContract, LabelMaskContract
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
from mtl_core.testing.image_contracts import AugmentContract, TransformContract
from mtl_core.testing.network_contract import BackboneContract
from mtl_core.testing.shaper_contract import GradientShaperContract
from mtl_core.testing.step_contracts import LossRuleContract, RegularizerContract

__all__ = [
    "EXAMPLES",
    "AugmentContract",
    "BackboneContract",
    "DatasetContract",
    "GradientShaperContract",
    "LabelMaskContract",
    "LossRuleContract",
    "PluginContract",
    "RegularizerContract",
    "TransformContract",
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
