"""What task weighting costs: a step with each method over a step with uniform weights, for 3 and for 20 tasks.

``python tests/benchmarks/weighting.py`` prints JSON. Every image has every label; tasks of one channel, 64 × 96, B = 4,
SegNet of width 64 for 3 tasks and 16 for 20. Steps of a method and of the reference alternate; a ratio is the median of
the pairs' ratios, with its quartiles; memory is the peak of three steps in a fresh process above its resting size.
``--device cuda`` measures with CUDA events and PyTorch's allocator in one process, as ``bench.py`` does; ``--minutes``
(1 on CUDA) are shared by the rows, and each takes at least three pairs. ``--width`` sets the network's for both.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import about, check_device, framework_step, last_number, on_cuda, or_failure, paired, peak_of
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


def trainer(tasks: int, options: argparse.Namespace, *methods: object, level: str = "features") -> Trainer:
    width = options.width or WIDTHS[tasks]
    plugins = [ManyTasks(tasks=tasks, labels=tasks), SegNet(width=width), *methods]
    experiment = Experiment(
        name="weighting",
        plugins=plugins,
        batch_size=4,
        validation=0.0,
        device=options.device,
        level=level,  # type: ignore[arg-type]
    )
    fabric = make_fabric(experiment)
    fabric.launch()
    return Trainer(prepare(experiment), fabric, RunFolder(Path(tempfile.mkdtemp())))


def made(method: str, tasks: int, options: argparse.Namespace) -> Trainer:
    """The trainer of a row of the table."""
    if method == "uniform":
        return trainer(tasks, options)
    level = "parameters" if method == AT_PARAMETERS else "features"
    return trainer(tasks, options, METHODS[method](), level=level)


def memory(trained: Trainer, method: str, tasks: int, options: argparse.Namespace) -> float:
    """Peak MiB: on CUDA in this process, else in a fresh one."""
    if on_cuda(options.device):
        return peak_of(trained)
    command = [sys.executable, __file__, "--memory", method, str(tasks), "--device", options.device]
    return last_number([*command, "--width", str(options.width)] if options.width else command)


def rows(tasks: int, options: argparse.Namespace, until: float) -> dict[str, object]:
    """Each method's step and memory over those of uniform weights; why one has none.

    :param until: by ``time.perf_counter``, shared by the methods
    """
    uniform = made("uniform", tasks, options)
    reference = framework_step(uniform)
    base = memory(uniform, "uniform", tasks, options)
    found: dict[str, object] = {"uniform peak MiB": round(base)}

    def row(name: str, end: float) -> dict[str, object]:
        trained = made(name, tasks, options)
        times = paired(framework_step(trained), reference, options.pairs, uniform.fabric.device, end)
        return times | {"memory": round(memory(trained, name, tasks, options) / base, 2)}

    for number, name in enumerate(options.methods):
        now = time.perf_counter()
        share = (until - now) / (len(options.methods) - number)
        found[name] = "no time left" if now > until else or_failure(partial(row, name, now + share))
        print(f"weighting: {tasks} tasks, {name} {found[name]}", file=sys.stderr, flush=True)
        gc.collect()  # trainers have cycles, and would fill a device
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--tasks", type=int, nargs="+", default=[3, 20], choices=list(WIDTHS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--width", type=int, help="of SegNet; 64 for 3 tasks and 16 for 20 by default")
    parser.add_argument("--minutes", type=float, help="for all rows; slow machines take fewer pairs, at least three")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--memory", nargs=2, metavar=("METHOD", "TASKS"), help="print one peak in MiB and stop")
    options = parser.parse_args()
    check_device(parser, options.device)
    if options.memory:
        method, tasks = options.memory
        print(peak_of(made(method, int(tasks), options)))
        return
    minutes = options.minutes or (1.0 if on_cuda(options.device) else math.inf)
    begun = time.perf_counter()
    found: dict[str, object] = {**about(options.device)}
    for number, k in enumerate(options.tasks):
        until = begun + 60 * minutes * (number + 1) / len(options.tasks)
        found[f"{k} tasks"] = rows(k, options, until)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
