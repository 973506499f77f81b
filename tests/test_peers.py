"""`make bench BENCH=peers`: every engine takes the step that its method says, so that their times can be compared."""

from __future__ import annotations

import argparse
import importlib.machinery
import inspect
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parent / "benchmarks"

STAND_IN = {
    "__init__.py": "",
    "architecture/__init__.py": """
from torch import nn


class HPS(nn.Module):
    def __init__(self, task_name, encoder_class, decoders, rep_grad, multi_input, device, **kwargs):
        super().__init__()
        self.task_name, self.decoders, self.device = task_name, decoders, device
        self.encoder = encoder_class()

    def forward(self, inputs, task_name=None):
        z = self.encoder(inputs)
        return {name: self.decoders[name](z) for name in self.task_name}
""",
    "weighting/__init__.py": """
import torch
from torch import nn


class UW(nn.Module):
    def init_param(self):
        self.loss_scale = nn.Parameter(torch.zeros(len(self.task_name), device=self.device))

    def backward(self, losses, **kwargs):
        assert not kwargs
        (losses / (2 * self.loss_scale.exp()) + self.loss_scale / 2).sum().backward()


class MGDA(UW):
    def backward(self, losses, **kwargs):
        assert kwargs == {"mgda_gn": "none"}
        losses.sum().backward()
""",
}
"""Not LibMTL: a package with its interface, as far as the benchmark uses it, so that the tests need no checkout.

What has ``real_libmtl`` runs LibMTL itself where ``MTL_LIBMTL`` names a checkout, and is skipped elsewhere.
"""


@pytest.fixture(scope="module")
def peers() -> Iterator[ModuleType]:
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    import peers

    yield peers
    sys.path.remove(str(BENCHMARKS))
    for name in {"peers", "bench", "scaling"} - before:
        sys.modules.pop(name, None)


@pytest.fixture
def libmtl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in STAND_IN.items():
        path = tmp_path / "LibMTL" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = importlib.util.find_spec
    spec = importlib.machinery.ModuleSpec("any", None)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: spec if name in ("cvxpy", "ecos") else found(name, *a)
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("LibMTL", "LibMTL.architecture", "LibMTL.weighting"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def options(**given: object) -> argparse.Namespace:
    known: dict[str, object] = {
        "width": 2, "device": "cpu", "libmtl": None, "rounds": 3, "minutes": 1.0, "threads": 1, "no_memory": True,
    }  # fmt: skip
    return argparse.Namespace(**known | given)


def moved(made: object) -> torch.Tensor:
    """How one step moves the encoder and the heads."""
    parameters = [p for group in made.optimizer.param_groups for p in group["params"] if p.dim() > 1]  # type: ignore[attr-defined]
    before = [p.detach().clone() for p in parameters]
    made.step()  # type: ignore[attr-defined]
    return torch.cat([(p - old).flatten() for p, old in zip(parameters, before, strict=True)])


def same_signs(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two steps agree. Adam's first step is the gradient's sign times the rate."""
    assert one.abs().max() > 0
    return one.shape == other.shape and bool((one.sign() == other.sign()).float().mean() > 0.98)


@pytest.mark.parametrize("method", ["MGDA", "CAGrad", "IMTL-G"])
def test_engines_take_the_same_step(peers: ModuleType, method: str) -> None:
    """Adam does not see that ours divides losses by K."""
    plain = moved(peers.prepared("plain", method, 3, options()))
    for engine in ("ours, parameters", "torchjd"):
        assert same_signs(plain, moved(peers.prepared(engine, method, 3, options()))), engine
    at_features = moved(peers.prepared("plain, features", method, 3, options()))
    assert same_signs(at_features, moved(peers.prepared("ours", method, 3, options())))
    assert not torch.equal(at_features.sign(), plain.sign())


def test_uncertainty_weights_everywhere(peers: ModuleType, libmtl: Path) -> None:
    for engine in peers.engines("UW", libmtl):
        assert moved(peers.prepared(engine, "UW", 3, options(libmtl=libmtl))).abs().max() > 0
    assert "ours, parameters" not in peers.engines("UW", None)


def test_libmtl_learns_its_own_parameters_too(peers: ModuleType, libmtl: Path) -> None:
    made = peers.prepared("libmtl", "UW", 3, options(libmtl=libmtl))
    scales = [p for group in made.optimizer.param_groups for p in group["params"] if p.shape == (3,)]
    before = scales[0].detach().clone()
    made.step()
    assert not torch.equal(scales[0], before)


def test_a_row_has_every_engine(peers: ModuleType, libmtl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = peers.row("MGDA", 3, options(libmtl=libmtl))
    assert list(found) == [
        "ours", "ours, parameters", "plain", "plain, features", "torchjd", "libmtl", "libmtl, features",
    ]  # fmt: skip
    assert all(it["seconds"] > 0 and it["rounds"] == 3 for it in found.values())
    assert all(found[engine]["step / ours"]["median"] > 0 for engine in list(found)[1:])
    found["ours"]["peak MiB"], found["plain"]["peak MiB"] = 8, 12
    from rich.console import Console

    Console(width=140).print(peers.table({"3": {"MGDA": found}}))
    out = capsys.readouterr().out
    assert "libmtl, features" in out
    assert "1.50" in out


def test_a_failure_is_a_line_and_not_the_end(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One engine fails when it is made, one at its third step, in the middle of the rounds."""
    steps = []

    def broken(method: str, tasks: int, width: int, device: str) -> object:
        raise AttributeError("module 'torch' has no attribute 'symeig'\nmore")

    def later(method: str, tasks: int, width: int, device: str) -> object:
        def step() -> None:
            steps.append(0)
            if len(steps) == 3:
                raise RuntimeError("no solution")

        return peers.Prepared(step, torch.optim.SGD([torch.zeros(1)]), torch.device("cpu"))

    monkeypatch.setattr(peers, "with_torchjd", broken)
    monkeypatch.setattr(peers, "written_out", later)
    found = peers.measure(options(methods=["MGDA"], tasks=[3]))["3"]["MGDA"]
    assert found["torchjd"] == {"failed": "AttributeError: module 'torch' has no attribute 'symeig'"}
    assert found["plain"] == {"failed": "RuntimeError: no solution"}
    assert len(steps) == 3
    assert found["ours, parameters"]["rounds"] == 3
    assert peers.table({"3": {"MGDA": found}}).row_count == 5


def test_ours_may_fail_too(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ours", lambda *a: 1 / 0)
    found = peers.row("UW", 3, options())
    assert found["ours"] == {"failed": "ZeroDivisionError: division by zero"}
    assert found["plain"]["seconds"] > 0
    assert peers.told("plain", found["plain"]) == "– (ours failed)"


def test_what_the_time_does_not_suffice_for_is_told(peers: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    found = peers.measure(options(methods=["UW", "MGDA"], tasks=[3], minutes=0.0))["3"]
    assert found["MGDA"]["ours"] == {"failed": "not measured: 0.0 minutes are too few here (--minutes)"}


def test_memory_is_that_of_fresh_processes(peers: ModuleType) -> None:
    with peers.forking(options(width=4)) as process:
        failed = peers.asked(process, ["plain", "no such method", 3])
        measured = peers.asked(process, ["plain", "UW", 3])
    assert failed == {"no memory": "KeyError: 'no such method'"}
    assert measured["peak MiB"] > 0


def test_a_path_without_libmtl_is_told_at_once(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", "--libmtl", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        peers.main()
    assert "no LibMTL/__init__.py in it; name the folder of a checkout" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_told_at_once(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", "--device", "cuda"])
    with pytest.raises(SystemExit, match="2"):
        peers.main()
    assert "PyTorch finds no CUDA device" in capsys.readouterr().err


def test_libmtl_is_not_imported_where_it_would_install_something(
    peers: ModuleType, libmtl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None)
    with pytest.raises(ImportError, match="LibMTL needs cvxpy"):
        peers.from_libmtl(libmtl, "UW")
    assert "LibMTL" not in sys.modules


def test_nash_without_its_solver_is_not_measured(
    peers: ModuleType, libmtl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchjd and LibMTL would go on with the weights that they began with."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None)
    for engine in ("torchjd", "libmtl"):
        assert peers.contender(engine, "Nash", 3, options(libmtl=libmtl)).failure.endswith("pip install ecos")


def test_rounds_stop_in_time_but_not_before_three(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves by a second with every step, two steps a round: ten seconds are five rounds."""
    clock = [0.0]
    monkeypatch.setattr(peers.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(peers.time, "process_time", lambda: clock[0])

    def step() -> None:
        clock[0] += 1.0

    def rounds(most: int, until: float) -> int:
        made = peers.Prepared(step, torch.optim.SGD([torch.zeros(1)]), torch.device("cpu"))
        both = [peers.Contender(made), peers.Contender(made)]
        peers.alternate(both, most, until)
        assert len(both[0].seconds) == len(both[1].seconds)
        return len(both[0].seconds)

    assert rounds(15, float("inf")) == 15
    assert rounds(15, clock[0] + 10) == 5
    assert rounds(15, clock[0]) == 3


@pytest.fixture
def real_libmtl(monkeypatch: pytest.MonkeyPatch) -> Path:
    if "MTL_LIBMTL" not in os.environ:
        pytest.skip("MTL_LIBMTL names no checkout of LibMTL")
    for name in [name for name in sys.modules if name.partition(".")[0] == "LibMTL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Path(os.environ["MTL_LIBMTL"])


@pytest.mark.filterwarnings("ignore:.*not DPP")
@pytest.mark.parametrize("method", ["UW", "PCGrad", "MGDA", "CAGrad", "IMTL-G", "Nash"])
def test_the_real_libmtl_takes_the_step_that_its_trainer_takes(
    peers: ModuleType, real_libmtl: Path, method: str
) -> None:
    """LibMTL itself, not the stand-in: one batch of ``LibMTL.Trainer.train`` from the same weights."""
    random.seed(0)
    ours = moved(peers.prepared("libmtl", method, 3, options(libmtl=real_libmtl)))
    parts = peers.plain_parts(3, 2, "cpu")[0]
    random.seed(0)  # PCGrad's order
    assert torch.equal(ours, moved_by_its_trainer(parts, *peers.LIBMTL[method]))


def moved_by_its_trainer(parts: object, weighting: str, settings: Mapping[str, object]) -> torch.Tensor:
    library, losses, metrics, weightings, architectures = (
        importlib.import_module(f"LibMTL{part}") for part in ("", ".loss", ".metrics", ".weighting", ".architecture")
    )
    if "bilevel_param" in inspect.signature(library.Trainer).parameters:
        pytest.skip("the Trainer of this version of LibMTL runs on CUDA alone")

    class Distance(losses.AbsLoss):  # type: ignore[name-defined]
        def compute_loss(self, pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
            return (pred - gt).abs().mean()

    class Nothing(metrics.AbsMetric):  # type: ignore[name-defined]
        def update_fun(self, pred: torch.Tensor, gt: torch.Tensor) -> None:
            pass

        def score_fun(self) -> list[float]:
            return []

    plain: Any = parts
    task = {"metrics": [], "metrics_fn": Nothing(), "weight": []}
    trainer = library.Trainer(
        {name: task | {"loss_fn": Distance()} for name in plain.targets},
        getattr(weightings, weighting), architectures.HPS, lambda: plain.encoder, plain.heads, False, False,
        {"optim": "adam", "lr": 1e-4, "fused": True}, None, weight_args=settings, arch_args={},
    )  # fmt: skip
    trainer.test = lambda *a, **k: None  # after the epoch
    batches = [(plain.images, plain.targets)]
    return moved(peers_step(trainer.optimizer, lambda: trainer.train(batches, batches, 1)))


def peers_step(optimizer: torch.optim.Optimizer, step: Callable[[], object]) -> object:
    return SimpleNamespace(optimizer=optimizer, step=step)


@pytest.mark.parametrize("method", ["MGDA", "IMTL-G"])
def test_the_real_libmtl_takes_the_step_of_plain_pytorch(peers: ModuleType, real_libmtl: Path, method: str) -> None:
    plain = moved(peers.prepared("plain", method, 3, options()))
    theirs = moved(peers.prepared("libmtl", method, 3, options(libmtl=real_libmtl)))
    heads = sum(p.numel() for p in peers.plain_parts(3, 2, "cpu")[0].heads.parameters() if p.dim() > 1)
    assert same_signs(plain, theirs.roll(-heads))  # LibMTL has the heads before the encoder
