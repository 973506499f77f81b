"""Gradient methods beside others' engines, in one run: the same network, batch, optimizer and losses.

``make bench BENCH=peers`` prints a table and JSON: for 3 and for 20 tasks and each method the step time and the peak
memory of

- ``ours``: this framework, gradients compared at the features (one backward pass), and ``ours, parameters``;
- ``plain``: PyTorch alone, one backward pass for each task written out, gradients of the encoder's parameters, and
  ``plain, features``: the same with gradients of the features;
- ``torchjd``: torchjd's own engine, ``torchjd.autojac``;
- ``libmtl``: LibMTL's architecture and weighting classes, and ``libmtl, features`` for its methods that compare
  gradients of the features (``rep_grad``). LibMTL is on no package index: ``git clone
  https://github.com/median-research-group/LibMTL``, ``pip install cvxpy ecos``, then ``ARGS="--libmtl LibMTL"``.

torchjd's and LibMTL's Nash-MTL need ``ecos``. A ratio is another engine's step over ours at the features in the same
round: the median of the rounds, with quartiles. Above 1 the other is slower. The steps of all engines alternate. On one
CPU thread a time is that which the process has computed, on several (``--threads``) that of the clock, and with
``--device cuda`` too, where the GPU is waited for before and after each step.
Memory is the peak of three steps above what was there before: on a CPU in a fresh process, as in ``bench.py``, on CUDA
what PyTorch has allocated. A run ends after ``--minutes``; what it has not measured by then, its table says.
Weights come of the Gramian by the same functions in ours and plain, so that these differ by the engine alone; torchjd
and LibMTL use their own. Every image has every label, tasks of one channel, 64 × 96, B = 4, SegNet of width 32 for 3
tasks and of width 16 for 20 on a CPU, of width 64 on CUDA.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import attrs
import torch
import torchjd.aggregation as aggregation
from bench import LEAST, Step, batch_for, framework_step, peak_of_steps, seconds
from rich.console import Console
from rich.table import Table
from scaling import ManyTasks
from torch import Tensor, nn
from torchjd import scalarization
from torchjd.autojac import jac_to_grad, mtl_backward

from mtl_backbones import SegNet
from mtl_core import Experiment, RunFolder, make_fabric
from mtl_core.testing import Trainer, prepare
from mtl_torchjd import TorchJD
from mtl_weighting.imtl import IMTL
from mtl_weighting.nash import NashMTL, bargain
from mtl_weighting.uw import UW

WIDTHS = {"cpu": {3: 32, 20: 16}, "cuda": {3: 64, 20: 64}}
"""Of SegNet, by device and number of tasks: what a run of ten minutes has time for."""
WARM_UP = 1
"""Steps of each engine before its first measured one, and before those come the steps for its memory on CUDA."""
TIMES = 0.65
"""Share of a run on a CPU that is for times; the rest is for memory. On CUDA memory takes no time of its own."""
C = 0.4
"""CAGrad's trade-off."""

OURS: dict[str, Callable[[], object]] = {
    "UW": UW,
    "PCGrad": lambda: TorchJD(aggregator="PCGrad"),
    "MGDA": lambda: TorchJD(aggregator="MGDA"),
    "CAGrad": lambda: TorchJD(aggregator="CAGrad", settings={"c": C}),
    "IMTL-G": lambda: IMTL(parts="gradients"),
    "Nash": NashMTL,
}


def nash(gramian: Tensor) -> Tensor:
    return bargain(gramian, torch.ones(len(gramian), dtype=torch.bool, device=gramian.device))


WEIGHTS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "PCGrad": aggregation.PCGradWeighting,
    "MGDA": aggregation.MGDAWeighting,
    "CAGrad": lambda: aggregation.CAGradWeighting(c=C),
    "IMTL-G": aggregation.IMTLGWeighting,
    "Nash": lambda: nash,
}
"""Method → what makes a function of the Gramian (K, K) that gives weights (K,), for plain PyTorch.

Made when it is needed: CAGrad's refuses where its solver is not installed.
"""

THEIRS: dict[str, Callable[[int], Any]] = {
    "PCGrad": lambda tasks: aggregation.PCGrad(),
    "MGDA": lambda tasks: aggregation.MGDA(),
    "CAGrad": lambda tasks: aggregation.CAGrad(c=C),
    "IMTL-G": lambda tasks: aggregation.IMTLG(),
    "Nash": lambda tasks: aggregation.NashMTL(n_tasks=tasks),
}
LIBMTL: dict[str, tuple[str, Mapping[str, Any]]] = {
    "UW": ("UW", {}),
    "PCGrad": ("PCGrad", {}),
    "MGDA": ("MGDA", {"mgda_gn": "none"}),
    "CAGrad": ("CAGrad", {"calpha": C, "rescale": 1}),
    "IMTL-G": ("IMTL", {}),  # with IMTL-L before it; LibMTL has no IMTL-G alone
    "Nash": ("Nash_MTL", {"update_weights_every": 1, "optim_niter": 20, "max_norm": 1.0}),
}
"""Method → LibMTL's class and the arguments of its ``backward``."""

LIBMTL_FEATURES = ("MGDA", "IMTL-G")
"""Those of its methods that also work at the features."""


@attrs.frozen(eq=False)
class Prepared:
    """A step that can be called again and again, and the optimizer behind it."""

    step: Step
    optimizer: torch.optim.Optimizer
    device: torch.device


@attrs.frozen(eq=False)
class Plain:
    """What every engine but ours works with: network, batch and optimizer.

    :param images: (B, 3, H, W)
    :param targets: K maps (B, 1, H, W)
    :param log_variances: (K,), learned by UW
    """

    encoder: nn.Module
    heads: nn.ModuleDict
    images: Tensor
    targets: dict[str, Tensor]
    log_variances: Tensor
    optimizer: torch.optim.Optimizer

    @property
    def shared(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())

    def losses(self, predictions: Mapping[str, Tensor]) -> list[Tensor]:
        return [(predictions[name] - target).abs().mean() for name, target in self.targets.items()]

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """The features, and the K losses."""
        z = self.encoder(self.images)
        return z, self.losses({name: self.heads[name](z) for name in self.targets})

    def take_step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


def trainer(tasks: int, width: int, device: str, level: str, *methods: object) -> Trainer:
    plugins = [ManyTasks(tasks=tasks, labels=tasks), SegNet(width=width), *methods]
    experiment = Experiment(
        name="peers", plugins=plugins, batch_size=4, validation=0.0, device=device, level=level,  # type: ignore[arg-type]
    )  # fmt: skip
    fabric = make_fabric(experiment)
    fabric.launch()
    return Trainer(prepare(experiment), fabric, RunFolder(Path(tempfile.mkdtemp())))


def plain_parts(tasks: int, width: int, device: str) -> tuple[Plain, torch.device]:
    """The network that ours has before the first step, in plain PyTorch."""
    made = trainer(tasks, width, device, "features")
    network, batch = made.session.network, batch_for(made)
    variances = torch.zeros(tasks, device=made.fabric.device, requires_grad=True)
    optimizer = torch.optim.Adam([*network.parameters(), variances], lr=1e-4, fused=True)
    parts = Plain(network.backbone, network.heads, batch.images, batch.targets, variances, optimizer)
    return parts, made.fabric.device


def ours(method: str, tasks: int, width: int, device: str, level: str = "features") -> Prepared:
    made = trainer(tasks, width, device, level, OURS[method]())
    return Prepared(framework_step(made), made.raw_optimizer, made.fabric.device)


def written_out(method: str, tasks: int, width: int, device: str) -> Prepared:
    """One backward pass for each task, the Gramian of the encoder's gradients, their weighted sum."""
    parts, where = plain_parts(tasks, width, device)
    shared, own = parts.shared, [list(parts.heads[name].parameters()) for name in parts.targets]

    def weighted_losses() -> None:
        stacked = torch.stack(parts.forward()[1])
        (stacked / (2 * parts.log_variances.exp()) + parts.log_variances / 2).sum().backward()
        parts.take_step()

    # UW weighs losses, and has no rule for gradients
    weigh = None if method == "UW" else WEIGHTS[method]()

    def weighted_gradients() -> None:
        assert weigh is not None
        losses, rows = parts.forward()[1], []
        for k, loss in enumerate(losses):
            found = torch.autograd.grad(loss, [*shared, *own[k]], retain_graph=k + 1 < len(losses))
            rows.append(torch.cat([part.flatten() for part in found[: len(shared)]]))
            for parameter, gradient in zip(own[k], found[len(shared) :], strict=True):
                parameter.grad = gradient
        matrix = torch.stack(rows)
        combined = weigh(matrix @ matrix.T).to(matrix) @ matrix
        sizes = [parameter.numel() for parameter in shared]
        for parameter, gradient in zip(shared, combined.split(sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)
        parts.take_step()

    return Prepared(weighted_losses if method == "UW" else weighted_gradients, parts.optimizer, where)


def with_torchjd(method: str, tasks: int, width: int, device: str) -> Prepared:
    parts, where = plain_parts(tasks, width, device)
    shared = parts.shared
    if method == "UW":
        rule = scalarization.UW(tasks).to(where)
        parts.optimizer.add_param_group({"params": list(rule.parameters())})

        def scalarized() -> None:
            rule(torch.stack(parts.forward()[1])).backward()
            parts.take_step()

        return Prepared(scalarized, parts.optimizer, where)
    aggregator = THEIRS[method](tasks)

    def step() -> None:
        z, losses = parts.forward()
        mtl_backward(losses, features=z)
        jac_to_grad(shared, aggregator)
        parts.take_step()

    return Prepared(step, parts.optimizer, where)


def written_out_at_features(method: str, tasks: int, width: int, device: str) -> Prepared:
    """As ``written_out``, but each task's backward pass ends at the features, and one goes on from there."""
    parts, where = plain_parts(tasks, width, device)
    own = [list(parts.heads[name].parameters()) for name in parts.targets]

    weigh = WEIGHTS[method]()

    def step() -> None:
        z = parts.encoder(parts.images)
        cut = z.detach().requires_grad_()
        losses, rows = parts.losses({name: parts.heads[name](cut) for name in parts.targets}), []
        for k, loss in enumerate(losses):
            row, *gradients = torch.autograd.grad(loss, [cut, *own[k]])
            rows.append(row.flatten())
            for parameter, gradient in zip(own[k], gradients, strict=True):
                parameter.grad = gradient
        matrix = torch.stack(rows)
        z.backward((weigh(matrix @ matrix.T).to(matrix) @ matrix).view_as(z))
        parts.take_step()

    return Prepared(step, parts.optimizer, where)


def with_libmtl(method: str, tasks: int, width: int, device: str, source: Path, at_features: bool) -> Prepared:
    """What LibMTL's ``Trainer.train`` does with a batch, without its meters, which wait for every loss.

    Its ``Trainer`` itself is not used: it chooses the device by itself, CUDA where there is one, in newer versions
    always.
    """
    hard_sharing, weighting = from_libmtl(source, LIBMTL[method][0])
    parts, where = plain_parts(tasks, width, device)
    settings = LIBMTL[method][1]

    class Model(hard_sharing, weighting):  # type: ignore[misc, valid-type]
        """As ``LibMTL.Trainer`` puts architecture and weighting together."""

        def __init__(self) -> None:
            names = list(parts.targets)
            super().__init__(names, lambda: parts.encoder, parts.heads, at_features, False, where)
            self.init_param()

    model: Any = Model().to(where)
    # its own parameters too, such as the scales that UW learns
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        predictions = model(parts.images)
        losses = torch.zeros(tasks, device=where)
        for k, loss in enumerate(parts.losses(predictions)):
            losses[k] = loss
        optimizer.zero_grad(set_to_none=False)
        weights = model.backward(losses, **settings)
        if method == "Nash" and (weights == 1).all():
            raise RuntimeError("its solver failed and it kept its first weights")
        optimizer.step()

    return Prepared(step, optimizer, where)


def from_libmtl(source: Path, weighting: str) -> tuple[type, type]:
    """LibMTL's class of hard parameter sharing, and one of its weighting classes.

    :raises ImportError: there is no LibMTL, or not what it needs
    """
    if not (source / "LibMTL" / "__init__.py").is_file():
        raise ImportError(f"{source}: no LibMTL/__init__.py in it; name the folder of a checkout of LibMTL")
    if importlib.util.find_spec("cvxpy") is None:
        # its Nash-MTL would install it by itself
        raise ImportError("LibMTL needs cvxpy; pip install cvxpy ecos")
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    try:
        architectures = importlib.import_module("LibMTL.architecture")
        return architectures.HPS, getattr(importlib.import_module("LibMTL.weighting"), weighting)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"{source}: {error}; expected LibMTL.architecture.HPS and LibMTL.weighting.{weighting}"
        ) from error


def prepared(engine: str, method: str, tasks: int, options: argparse.Namespace) -> Prepared:
    """:raises ImportError: an engine lacks a library"""
    width = options.width or WIDTHS[options.device][tasks]
    library, _, level = engine.partition(", ")
    if method == "Nash" and library in ("torchjd", "libmtl") and importlib.util.find_spec("ecos") is None:
        # both keep their first weights without it, and say nothing
        raise ImportError("its Nash-MTL needs ecos; pip install ecos")
    if library == "libmtl":
        return with_libmtl(method, tasks, width, options.device, options.libmtl, level == "features")
    if library == "ours":
        return ours(method, tasks, width, options.device, level or "features")
    makers = {"plain": written_out, "plain, features": written_out_at_features, "torchjd": with_torchjd}
    return makers[engine](method, tasks, width, options.device)


def engines(method: str, libmtl: Path | None) -> list[str]:
    """Ours at the features, and those that are compared with it; rules for the losses compare no gradients."""
    if method == "UW":
        return ["ours", "plain", "torchjd", *(["libmtl"] if libmtl else [])]
    named = ["ours", "ours, parameters", "plain", "plain, features", "torchjd"]
    if libmtl:
        named += ["libmtl", "libmtl, features"] if method in LIBMTL_FEATURES else ["libmtl"]
    return named


@attrs.define(eq=False)
class Contender:
    """One engine in one row of the comparison.

    :param failure: why it has no values
    :param seconds: of each round
    :param peak: MiB
    """

    prepared: Prepared | None = None
    failure: str | None = None
    seconds: list[float] = attrs.Factory(list)
    peak: float | None = None

    def fail(self, error: Exception) -> None:
        self.prepared = None
        self.failure = reason(error)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def reason(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def contender(engine: str, method: str, tasks: int, options: argparse.Namespace) -> Contender:
    """Prepared and warm. Whatever goes wrong in an engine is a line of the table."""
    made = Contender()
    try:
        made.prepared = it = prepared(engine, method, tasks, options)
        if it.device.type == "cuda" and not options.no_memory:
            take_workspace(it.device)
            made.peak = peak_of_steps(it.step, it.optimizer, it.device)
        for _ in range(WARM_UP):
            it.step()
    except Exception as error:
        made.fail(error)
    return made


def take_workspace(device: torch.device) -> None:
    """What cuBLAS takes once for all, forward and backward, so that the first engine's peak does not bear it."""
    x = torch.ones(8, 8, device=device, requires_grad=True)
    (x @ x).sum().backward()


def alternate(contenders: Sequence[Contender], rounds: int, until: float) -> None:
    """Rounds of one step each, to and fro, so that a noisy neighbour hits all.

    :param until: by ``time.perf_counter``: no round begins that would end later, after the least number of them
    """
    begun = time.perf_counter()
    for number in range(rounds):
        now = time.perf_counter()
        if number >= LEAST and now + (now - begun) / number > until:
            break
        for each in contenders if number % 2 == 0 else reversed(contenders):
            if each.prepared is None:
                continue
            try:
                each.seconds.append(taken(each.prepared))
            except Exception as error:
                each.fail(error)


def taken(made: Prepared) -> float:
    """Seconds of a step: on one thread those of this process alone, so that what others compute beside it is no part.

    Waiting is none of them, but a step on a CPU waits for nothing.
    """
    if made.device.type != "cpu" or torch.get_num_threads() > 1:
        return seconds(made.step, made.device)
    begun = time.process_time()
    made.step()
    return time.process_time() - begun


def row(method: str, tasks: int, options: argparse.Namespace, until: float = math.inf) -> dict[str, dict[str, Any]]:
    """Every engine's step over ours, and seconds; why one has none."""
    gc.collect()  # networks of the row before
    made = {engine: contender(engine, method, tasks, options) for engine in engines(method, options.libmtl)}
    alternate(list(made.values()), options.rounds, until)
    return {engine: values(each, made["ours"]) for engine, each in made.items()}


def values(each: Contender, mine: Contender) -> dict[str, Any]:
    if each.failure:
        return {"failed": each.failure}
    found: dict[str, Any] = {"seconds": round(statistics.median(each.seconds), 4), "rounds": len(each.seconds)}
    if each is not mine and not mine.failure:
        ratios = [a / b for a, b in zip(each.seconds, mine.seconds, strict=True)]
        q1, median, q3 = statistics.quantiles(ratios, n=4)
        found["step / ours"] = {"median": round(median, 3), "quartiles": [round(q1, 3), round(q3, 3)]}
    if each.peak is not None:
        found["peak MiB"] = round(each.peak)
    return found


Row = dict[str, dict[str, Any]]
Found = dict[str, dict[str, Row]]


def measure(options: argparse.Namespace) -> Found:
    """Tasks → method → engine → values."""
    now = time.perf_counter()
    until = now + 60 * options.minutes
    apart = options.device == "cpu" and not options.no_memory
    found = measure_times(options, now + TIMES * (until - now) if apart else until)
    if apart:
        add_memory(found, options, until)
    return found


def measure_times(options: argparse.Namespace, until: float) -> Found:
    cells = [(tasks, method) for method in options.methods for tasks in options.tasks]
    found: Found = {str(tasks): {} for tasks in options.tasks}
    for number, (tasks, method) in enumerate(cells):
        now = time.perf_counter()
        if now > until:
            late = {"failed": f"not measured: {options.minutes} minutes are too few here (--minutes)"}
            found[str(tasks)][method] = {engine: dict(late) for engine in engines(method, options.libmtl)}
            continue
        found[str(tasks)][method] = row(method, tasks, options, now + (until - now) / (len(cells) - number))
        told_at_once = {engine: told(engine, it) for engine, it in found[str(tasks)][method].items()}
        print(f"{tasks} tasks, {method}: {told_at_once}", file=sys.stderr, flush=True)
    return found


def add_memory(found: Found, options: argparse.Namespace, until: float) -> None:
    """Peak MiB of a fresh process for each engine, as far as the time allows."""
    jobs = [
        (tasks, method, engine, it)
        for method in options.methods
        for tasks in options.tasks
        for engine, it in found[str(tasks)][method].items()
        if "failed" not in it
    ]
    with forking(options) as process:
        longest = 0.0
        for tasks, method, engine, it in jobs:
            begun = time.perf_counter()
            if begun + longest > until:
                it["no memory"] = "no time left"
                continue
            it |= asked(process, [engine, method, tasks])
            longest = max(longest, time.perf_counter() - begun)


def forking(options: argparse.Namespace) -> subprocess.Popen[str]:
    """A process that has imported everything and run nothing: each of its children is a fresh one without the wait.

    It returns freed memory at once, so that its size is that of what lives; glibc reads this when a process starts.
    """
    command = [sys.executable, __file__, "--peaks", "--device", options.device, "--threads", str(options.threads)]
    command += ["--width", str(options.width)] if options.width else []
    command += ["--libmtl", str(options.libmtl)] if options.libmtl else []
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def asked(process: subprocess.Popen[str], job: list[object]) -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    try:
        print(json.dumps(job), file=process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        return {"no memory": "the process that measures it has ended"}
    return answer


def answer_peaks(jobs: Iterable[str], out: IO[str], options: argparse.Namespace) -> None:
    """For each line with an engine, a method and a number of tasks a line with the peak of a child's steps."""
    for line in jobs:
        engine, method, tasks = json.loads(line)
        child = os.fork()
        if child == 0:
            sys.stdout = sys.stderr  # what libraries print is no answer
            print(json.dumps(peak(engine, method, tasks, options)), file=out, flush=True)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status:
            print(json.dumps({"no memory": f"the process ended with {status}"}), file=out, flush=True)


def peak(engine: str, method: str, tasks: int, options: argparse.Namespace) -> dict[str, Any]:
    try:
        made = prepared(engine, method, tasks, options)
        return {"peak MiB": round(peak_of_steps(made.step, made.optimizer, made.device))}
    except Exception as error:
        return {"no memory": reason(error)}


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    made = Table("tasks", "method", "engine", "step / ours [quartiles]", "seconds", "peak MiB", "peak / ours")
    for tasks, rows in found.items():
        for method, engines_of in rows.items():
            base = engines_of["ours"].get("peak MiB")
            for engine, it in engines_of.items():
                mib = it.get("peak MiB")
                share = f"{mib / base:.2f}" if mib is not None and base else "–"
                cells = [str(it.get("seconds", "–")), "–" if mib is None else str(mib), share]
                made.add_row(tasks, method, engine, told(engine, it), *cells)
            made.add_section()
    return made


def told(engine: str, it: Mapping[str, Any]) -> str:
    if "failed" in it:
        return str(it["failed"])
    if engine == "ours":
        return "1"
    if "step / ours" not in it:
        return "– (ours failed)"
    ratio = it["step / ours"]
    low, high = ratio["quartiles"]
    return f"{ratio['median']:.2f} [{low:.2f}, {high:.2f}]"


def about(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load average before": round(os.getloadavg()[0], 1),
        "widths": options.width or WIDTHS[options.device],
        "libmtl": "measured" if options.libmtl else "not given",
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    return named[1] if named else platform.processor()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help=f"at most; at least {LEAST}")
    parser.add_argument("--minutes", type=float, default=9.0, help="of the whole; a slow machine measures less")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--tasks", type=int, nargs="+", default=[3, 20])
    parser.add_argument("--methods", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--device", default="cpu", choices=list(WIDTHS))
    parser.add_argument("--width", type=int, help="of SegNet, in place of the default of its device and tasks")
    parser.add_argument("--libmtl", type=Path, help="folder of a checkout of LibMTL")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--peaks", action="store_true", help="read [engine, method, tasks] in lines, print peaks")
    options = parser.parse_args()
    known = WIDTHS[options.device]
    if options.width is None and (unknown := set(options.tasks) - set(known)):
        parser.error(f"--tasks {min(unknown)}: give --width too")
    if options.rounds < LEAST:
        parser.error(f"--rounds {options.rounds}: expected at least {LEAST}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no CUDA device")
    if options.libmtl:
        try:
            from_libmtl(options.libmtl, "UW")  # a wrong path is told before anything is measured
        except ImportError as error:
            parser.error(f"--libmtl: {error}")
    return options


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message=".*not DPP")  # torchjd's and LibMTL's Nash-MTL, at every step
    if options.peaks:
        answer_peaks(sys.stdin, sys.stdout, options)
        return
    conditions = about(options)
    found = measure(options)
    Console(stderr=True, width=140).print(table(found))
    after = {"load average after": round(os.getloadavg()[0], 1)}
    print(json.dumps({**conditions, **after, "tasks": found}, indent=2))


if __name__ == "__main__":
    main()
