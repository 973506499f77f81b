"""`make bench BENCH=peers`: every engine takes the step that its method says, so that their times can be compared."""

from __future__ import annotations

import argparse
import importlib.machinery
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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
        self.loss_scale = torch.zeros(len(self.task_name), device=self.device)

    def backward(self, losses, **kwargs):
        assert not kwargs
        (losses / (2 * self.loss_scale.exp())).sum().backward()


class MGDA(UW):
    def backward(self, losses, **kwargs):
        assert kwargs == {"mgda_gn": "none"}
        losses.sum().backward()
""",
}
"""A package with the interface of LibMTL, as far as the benchmark uses it."""


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
    known: dict[str, object] = {"width": 2, "device": "cpu", "libmtl": None, "pairs": 2, "no_memory": True}
    return argparse.Namespace(**known | given)


def moved(made: object) -> torch.Tensor:
    """How one step moves the encoder and the heads."""
    parameters = [p for group in made.optimizer.param_groups for p in group["params"] if p.dim() > 1]  # type: ignore[attr-defined]
    before = [p.detach().clone() for p in parameters]
    made.step()  # type: ignore[attr-defined]
    return torch.cat([(p - old).flatten() for p, old in zip(parameters, before, strict=True)])


@pytest.mark.parametrize("method", ["MGDA", "CAGrad", "IMTL-G"])
def test_engines_take_the_same_step(peers: ModuleType, method: str) -> None:
    """Adam's first step is the gradient's sign times the rate: it does not see that ours divides losses by K."""
    ours, plain, theirs = (
        moved(peers.prepared(engine, method, 3, options())) for engine in ("ours, parameters", "plain", "torchjd")
    )
    assert plain.abs().max() > 0
    for other in (ours, theirs):
        assert other.shape == plain.shape
        assert (other.sign() == plain.sign()).float().mean() > 0.98


def test_uncertainty_weights_everywhere(peers: ModuleType, libmtl: Path) -> None:
    for engine in peers.engines("UW", libmtl):
        assert moved(peers.prepared(engine, "UW", 3, options(libmtl=libmtl))).abs().max() > 0
    assert "ours, parameters" not in peers.engines("UW", None)


def test_a_row_has_every_engine(peers: ModuleType, libmtl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = peers.row("MGDA", 3, options(libmtl=libmtl))
    assert list(found) == ["ours", "ours, parameters", "plain", "torchjd", "libmtl"]
    for engine in list(found)[1:]:
        assert found[engine]["step / ours"]["median"] > 0
    assert found["ours"]["seconds"] > 0
    from rich.console import Console

    Console(width=120).print(peers.table({"3": {"MGDA": found}}))
    assert "libmtl" in capsys.readouterr().out


def test_a_path_without_libmtl_is_told_at_once(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", "--libmtl", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no LibMTL/__init__.py in it; name the folder of a checkout"):
        peers.main()


def test_libmtl_is_not_imported_where_it_would_install_something(
    peers: ModuleType, libmtl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None)
    with pytest.raises(SystemExit, match="LibMTL needs cvxpy and ecos"):
        peers.from_libmtl(libmtl, "UW")
    assert "LibMTL" not in sys.modules


def test_pairs_stop_in_time_but_not_before_three(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves by a second with every step: ten seconds are five pairs."""
    clock = [0.0]
    monkeypatch.setattr("bench.time.perf_counter", lambda: clock[0])

    def step() -> None:
        clock[0] += 1.0

    cpu = torch.device("cpu")
    assert peers.paired(step, step, 15, cpu)["pairs"] == 15
    assert peers.paired(step, step, 15, cpu, clock[0] + 4 + 10)["pairs"] == 5
    assert peers.paired(step, step, 15, cpu, clock[0])["pairs"] == 3
