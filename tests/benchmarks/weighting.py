"""What task weighting costs: a step with each method over a step with uniform weights, for 3 and for 20 tasks.

``python tests/benchmarks/weighting.py`` prints JSON. Every image has every label; tasks of one channel, 64 × 96, B = 4,
SegNet of width 64 for 3 tasks and 16 for 20. Steps of a method and of the reference alternate; a ratio is the median of
the pairs' ratios, with its quartiles; memory is the peak of three steps in a fresh process above its resting size.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bench import framework_step, last_number, paired, peak_of
from scaling import ManyTasks

from mtl_auxiliary import GCS, OLAUX, AutoLambda
from mtl_backbones import SegNet
from mtl_core import Experiment, RunFolder, make_fabric
from mtl_core.testing import Trainer, prepare
from mtl_ial import IAL
from mtl_torchjd import TorchJD
from mtl_weighting.atw import ATW
from mtl_weighting.dwa import DWA
from mtl_weighting.fixed_weights import FixedWeights
from mtl_weighting.gradnorm import GradNorm
from mtl_weighting.imtl import IMTL
from mtl_weighting.miraliev import Miraliev
from mtl_weighting.nash import NashMTL
from mtl_weighting.puw import PUW
from mtl_weighting.rlw import RLW
from mtl_weighting.uw import UW
from mtl_weighting.uw_so import UWSO

AT_PARAMETERS = "ial, at the parameters"
METHODS: dict[str, Callable[[], object]] = {
    "uw": UW, "dwa": DWA, "rlw": RLW, "uw-so": UWSO, "atw": ATW, "gradnorm": GradNorm, "imtl": IMTL, "nash": NashMTL,
    "ial": lambda: IAL(primary="t0"), "gcs": lambda: GCS(primary="t0"), "ol-aux": lambda: OLAUX(primary="t0"),
    "auto-lambda": lambda: AutoLambda(primary="t0"), "torchjd MGDA": lambda: TorchJD(aggregator="MGDA"),
    "torchjd PCGrad": lambda: TorchJD(aggregator="PCGrad"), "torchjd UPGrad": lambda: TorchJD(aggregator="UPGrad"),
    "torchjd UW": lambda: TorchJD(scalarizer="UW"), AT_PARAMETERS: lambda: IAL(primary="t0"),
    "fixed-weights": lambda: FixedWeights(primary="t0"), "miraliev": lambda: Miraliev(objectives=("gradient",)),
    "puw": PUW, "torchjd CAGrad": lambda: TorchJD(aggregator="CAGrad", settings={"c": 0.4}),
    "torchjd AlignedMTL": lambda: TorchJD(aggregator="AlignedMTL"),
    "torchjd GradVac": lambda: TorchJD(aggregator="GradVac"), "torchjd FAMO": lambda: TorchJD(scalarizer="FAMO"),
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
    return Trainer(prepare(experiment), fabric, RunFolder(Path(tempfile.mkdtemp())))


def made(method: str, tasks: int) -> Trainer:
    """The trainer of a row of the table."""
    if method == "uniform":
        return trainer(tasks)
    level = "parameters" if method == AT_PARAMETERS else "features"
    return trainer(tasks, METHODS[method](), level=level)


def memory(method: str, tasks: int) -> float:
    """Peak MiB in a fresh process."""
    command = [sys.executable, __file__, "--memory", method, str(tasks)]
    return last_number(command)


def rows(tasks: int, methods: list[str], pairs: int) -> dict[str, object]:
    """Each method's step and memory over those of uniform weights."""
    reference = framework_step(made("uniform", tasks))
    base = memory("uniform", tasks)
    found = {}
    for name in methods:
        found[name] = paired(framework_step(made(name, tasks)), reference, pairs, torch.device("cpu"))
        found[name]["memory"] = round(memory(name, tasks) / base, 2)
    return {"uniform peak MiB": round(base), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--tasks", type=int, nargs="+", default=[3, 20], choices=list(WIDTHS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--memory", nargs=2, metavar=("METHOD", "TASKS"), help="print one peak in MiB and stop")
    options = parser.parse_args()
    if options.memory:
        method, tasks = options.memory
        print(peak_of(made(method, int(tasks))))
        return
    print(json.dumps({f"{k} tasks": rows(k, options.methods, options.pairs) for k in options.tasks}, indent=2))


if __name__ == "__main__":
    main()
