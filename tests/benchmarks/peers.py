"""Gradient methods beside others' engines, in one run: the same network, batch, optimizer and losses.

``make bench BENCH=peers`` prints a table and JSON: for 3 and for 20 tasks and each method the step time and the peak
memory of

- ``ours``: this framework, gradients compared at the features (one backward pass), and ``ours, parameters``;
- ``plain``: PyTorch alone, one backward pass for each task written out, gradients of the encoder's parameters;
- ``torchjd``: torchjd's own engine, ``torchjd.autojac``;
- ``libmtl``: LibMTL's architecture and weighting classes, if ``--libmtl PATH`` names a folder with its source. It is on
  no package index; this part was written for its public interface and tried with a stand-in, not with LibMTL itself.
  torchjd's and LibMTL's Nash-MTL need ``pip install cvxpy ecos``.

A ratio is another engine's step over ours at the features: the median of alternating pairs, with quartiles. Above 1 the
other is slower. Memory is the peak of three steps in a fresh process above its resting size, as in ``bench.py``.
Weights come of the Gramian by the same functions in ours and plain, so that these differ by the engine alone; torchjd
and LibMTL use their own. Every image has every label, tasks of one channel, 64 × 96, B = 4, SegNet of width 64 for 3
tasks and of width 16 for 20.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
import torchjd.aggregation as aggregation
from bench import Step, batch_for, framework_step, last_number, paired, peak_of_steps
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

WIDTHS = {3: 64, 20: 16}
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
WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "PCGrad": aggregation.PCGradWeighting(),
    "MGDA": aggregation.MGDAWeighting(),
    "CAGrad": aggregation.CAGradWeighting(c=C),
    "IMTL-G": aggregation.IMTLGWeighting(),
    "Nash": lambda gramian: bargain(gramian, torch.ones(len(gramian), dtype=torch.bool, device=gramian.device)),
}
"""Method → Gramian (K, K) → weights (K,), for plain PyTorch."""

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

LIBMTL_NEEDS = ("cvxpy", "ecos")
"""Its Nash-MTL installs the first by itself when it is imported, and keeps its first weights without the second."""


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

    def weighted_gradients() -> None:
        losses, rows = parts.forward()[1], []
        for k, loss in enumerate(losses):
            found = torch.autograd.grad(loss, [*shared, *own[k]], retain_graph=k + 1 < len(losses))
            rows.append(torch.cat([part.flatten() for part in found[: len(shared)]]))
            for parameter, gradient in zip(own[k], found[len(shared) :], strict=True):
                parameter.grad = gradient
        matrix = torch.stack(rows)
        combined = WEIGHTS[method](matrix @ matrix.T).to(matrix) @ matrix
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


def with_libmtl(method: str, tasks: int, width: int, device: str, source: Path) -> Prepared:
    """What LibMTL's ``Trainer.train`` does with a batch, without its meters."""
    hard_sharing, weighting = from_libmtl(source, LIBMTL[method][0])
    parts, where = plain_parts(tasks, width, device)
    arguments = LIBMTL[method][1]

    class Model(hard_sharing, weighting):  # type: ignore[misc, valid-type]
        """As ``LibMTL.Trainer`` puts architecture and weighting together."""

        def __init__(self) -> None:
            names = list(parts.targets)
            super().__init__(names, lambda: parts.encoder, parts.heads, False, False, where)
            self.init_param()

    model: Any = Model()

    def step() -> None:
        losses = torch.stack(parts.losses(model(parts.images)))
        parts.optimizer.zero_grad(set_to_none=False)
        model.backward(losses, **arguments)
        parts.optimizer.step()

    return Prepared(step, parts.optimizer, where)


def from_libmtl(source: Path, weighting: str) -> tuple[type, type]:
    """LibMTL's class of hard parameter sharing, and one of its weighting classes."""
    if not (source / "LibMTL" / "__init__.py").is_file():
        sys.exit(f"peers: --libmtl {source}: no LibMTL/__init__.py in it; name the folder of a checkout of LibMTL")
    lacking = [name for name in LIBMTL_NEEDS if importlib.util.find_spec(name) is None]
    if lacking:
        sys.exit(f"peers: LibMTL needs {' and '.join(lacking)}; pip install {' '.join(lacking)}")
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    try:
        architectures = importlib.import_module("LibMTL.architecture")
        return architectures.HPS, getattr(importlib.import_module("LibMTL.weighting"), weighting)
    except (ImportError, AttributeError) as error:
        sys.exit(
            f"peers: --libmtl {source}: {error}; expected LibMTL.architecture.HPS and LibMTL.weighting.{weighting}"
        )


def prepared(engine: str, method: str, tasks: int, options: argparse.Namespace) -> Prepared:
    width = options.width or WIDTHS[tasks]
    if engine == "libmtl":
        return with_libmtl(method, tasks, width, options.device, options.libmtl)
    if engine == "ours, parameters":
        return ours(method, tasks, width, options.device, "parameters")
    makers = {"ours": ours, "plain": written_out, "torchjd": with_torchjd}
    return makers[engine](method, tasks, width, options.device)


def engines(method: str, libmtl: Path | None) -> list[str]:
    """Those that are compared with ours; rules for the losses compare no gradients."""
    named = ["plain", "torchjd", *(["libmtl"] if libmtl else [])]
    return named if method == "UW" else ["ours, parameters", *named]


def row(method: str, tasks: int, options: argparse.Namespace) -> dict[str, Any]:
    """Every engine's step over ours, seconds and memory; why one has none."""
    mine = prepared("ours", method, tasks, options)
    found: dict[str, Any] = {"ours": memory("ours", method, tasks, options)}
    for engine in engines(method, options.libmtl):
        try:
            other = prepared(engine, method, tasks, options)
            ratio = paired(other.step, mine.step, options.pairs, mine.device)
        except (ImportError, ValueError, RuntimeError) as error:
            found[engine] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
            continue
        found["ours"]["seconds"] = ratio.pop("reference_seconds")
        found[engine] = {"step / ours": ratio} | memory(engine, method, tasks, options)
    return found


def memory(engine: str, method: str, tasks: int, options: argparse.Namespace) -> dict[str, int]:
    """Peak MiB in a fresh process."""
    if options.no_memory:
        return {}
    command = [sys.executable, __file__, "--peak", engine, method, str(tasks), "--device", options.device]
    command += ["--width", str(options.width)] if options.width else []
    command += ["--libmtl", str(options.libmtl)] if options.libmtl else []
    return {"peak MiB": round(last_number(command))}


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    made = Table("tasks", "method", "engine", "step / ours [quartiles]", "peak MiB")
    for tasks, rows in found.items():
        for method, engines_of in rows.items():
            for engine, values in engines_of.items():
                made.add_row(tasks, method, engine, told(engine, values), str(values.get("peak MiB", "–")))
            made.add_section()
    return made


def told(engine: str, values: Mapping[str, Any]) -> str:
    if engine == "ours":
        return f"1 ({values.get('seconds', '–')} s)"
    if "failed" in values:
        return str(values["failed"])
    ratio = values["step / ours"]
    return f"{ratio['median']} {ratio['quartiles']}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tasks", type=int, nargs="+", default=[3, 20])
    parser.add_argument("--methods", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, help="of SegNet; 64 for 3 tasks and 16 for 20 by default")
    parser.add_argument("--libmtl", type=Path, help="folder with LibMTL's source")
    parser.add_argument(
        "--no-memory", action="store_true", help="times alone: the memory takes a process for each value"
    )
    parser.add_argument("--peak", nargs=3, metavar=("ENGINE", "METHOD", "TASKS"), help="print one peak in MiB and stop")
    options = parser.parse_args()
    if options.width is None and (unknown := set(options.tasks) - set(WIDTHS)):
        parser.error(f"--tasks {min(unknown)}: give --width too")
    if options.libmtl:
        from_libmtl(options.libmtl, "UW")  # a wrong path is told before anything is measured
    return options


def main() -> None:
    options = arguments()
    if options.peak:
        engine, method, tasks = options.peak
        made = prepared(engine, method, int(tasks), options)
        print(peak_of_steps(made.step, made.optimizer, made.device))
        return
    found = {f"{k}": {method: row(method, k, options) for method in options.methods} for k in options.tasks}
    Console(stderr=True, width=120).print(table(found))
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": options.device,
             "libmtl": "measured" if options.libmtl else "not given"}  # fmt: skip
    print(json.dumps({**about, "tasks": found}, indent=2))


if __name__ == "__main__":
    main()
