"""What task weighting costs: a step with each method over a step with uniform weights, for 3 and for 20 tasks.

``python tests/benchmarks/weighting.py`` prints JSON. Every image has every label; tasks of one channel, 64 × 96, B = 4,
SegNet of width 64 for 3 tasks and 16 for 20. Steps of a method and of the reference alternate; a ratio is the median of
the pairs' ratios, with its quartiles.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bench import framework_step, paired
from scaling import ManyTasks

from mtl_auxiliary import GCS, OLAUX, AutoLambda
from mtl_backbones import SegNet
from mtl_core import Experiment
from mtl_core.loop import Trainer, make_fabric
from mtl_core.run import Run
from mtl_core.session import prepare
from mtl_ial import IAL
from mtl_torchjd import TorchJD
from mtl_weighting.atw import ATW
from mtl_weighting.dwa import DWA
from mtl_weighting.gradnorm import GradNorm
from mtl_weighting.imtl import IMTL
from mtl_weighting.nash import NashMTL
from mtl_weighting.rlw import RLW
from mtl_weighting.uw import UW
from mtl_weighting.uw_so import UWSO

METHODS: dict[str, Callable[[], object]] = {
    "uw": UW, "dwa": DWA, "rlw": RLW, "uw-so": UWSO, "atw": ATW, "gradnorm": GradNorm, "imtl": IMTL, "nash": NashMTL,
    "ial": lambda: IAL(primary="t0"), "gcs": lambda: GCS(primary="t0"), "ol-aux": lambda: OLAUX(primary="t0"),
    "auto-lambda": lambda: AutoLambda(primary="t0"), "torchjd MGDA": lambda: TorchJD(aggregator="MGDA"),
    "torchjd PCGrad": lambda: TorchJD(aggregator="PCGrad"), "torchjd UPGrad": lambda: TorchJD(aggregator="UPGrad"),
    "torchjd UW": lambda: TorchJD(scalarizer="UW"),
}  # fmt: skip
WIDTHS = {3: 64, 20: 16}


def trainer(tasks: int, *methods: object, level: str = "features") -> Trainer:
    plugins = [ManyTasks(tasks=tasks, labels=tasks), SegNet(width=WIDTHS[tasks]), *methods]
    experiment = Experiment(
        name="weighting",
        plugins=plugins,
        batch_size=4,
        validation=0.0,
        device="cpu",
        level=level,  # type: ignore[arg-type]
    )
    fabric = make_fabric(experiment)
    fabric.launch()
    return Trainer(prepare(experiment), fabric, Run(Path(tempfile.mkdtemp())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--tasks", type=int, nargs="+", default=[3, 20], choices=list(WIDTHS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    for tasks in options.tasks:
        reference = framework_step(trainer(tasks))
        found[f"{tasks} tasks"] = {
            name: paired(framework_step(trainer(tasks, METHODS[name]())), reference, options.pairs, torch.device("cpu"))
            for name in options.methods
        }
        at_parameters = framework_step(trainer(tasks, IAL(primary="t0"), level="parameters"))
        found[f"{tasks} tasks"]["ial, at the parameters"] = paired(
            at_parameters, reference, options.pairs, torch.device("cpu")
        )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
