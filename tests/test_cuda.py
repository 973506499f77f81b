"""What only a GPU shows: the same losses as on the CPU, half precision, compiled steps, resumed runs, memory.

Skipped where there is none. Runs are a few small rooms long, so that all of it takes about two minutes.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from mtl_core.cli import main
from mtl_randaugment import RandAugment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

COMMON = """
name = "cuda"
epochs = {epochs}
batch_size = 4
validation = 0.0
learning_rate = 1e-3

[plugins.scenes]
size = [32, 48]
train = 4
test = 2
[plugins.onelabel]
[plugins.segnet]
width = 4
"""

METHODS = {
    "supervised": "",
    "jtr": "[plugins.jtr]\n",
    "jtr-averages": '[plugins.jtr]\nnetwork = "averages"\n',
    "mtpsl": "[plugins.mtpsl]\n",
    "ial": '[plugins.ial]\nprimary = "segmentation"\n',
    "jtr-ial": '[plugins.jtr]\n[plugins.ial]\nprimary = "segmentation"\n',
    "pcgrad": '[plugins.torchjd]\naggregator = "PCGrad"\n',
    "mgda": '[plugins.torchjd]\naggregator = "MGDA"\n',
    "imtl": "[plugins.imtl]\n",
    "uw": "[plugins.uw]\n",
    "dwa": "[plugins.dwa]\n",
    "gradnorm": "[plugins.gradnorm]\n",
    "auto-lambda": '[plugins.auto-lambda]\nprimary = "segmentation"\n',
}
RANDOM = {
    "consistency": "[plugins.randaugment]\n[plugins.consistency]\n",
    "jtr-released": '[plugins.randaugment]\n[plugins.jtr]\nvariant = "released"\n',
}
"""Methods that draw on the device, whose numbers differ from the CPU's."""


@pytest.fixture(autouse=True)
def _whole_float32() -> Iterator[None]:
    """TF32 has 10 bits of mantissa: a comparison with the CPU would say nothing about the method."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with warnings.catch_warnings():
        # max-unpooling and bilinear enlargement have no deterministic backward pass on CUDA, and torch says so
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        # torch 2.11 compiles with parts of its own that it calls deprecated
        warnings.filterwarnings("ignore", message=".*torch.jit.*is deprecated.*")
        yield
    torch.backends.cudnn.allow_tf32 = before


def train(folder: Path, plugins: str, epochs: int = 3, resume: bool = False, **settings: Any) -> list[dict[str, Any]]:
    """Train by the command; the records of its epochs."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "experiment.toml"
    file.write_text(COMMON.format(epochs=epochs) + plugins, "utf-8")
    changes = []
    for key, value in settings.items():
        changes += ["--set", f"{key}={json.dumps(value)}"]
    going_on = ["--resume"] if resume else []
    command(["train", str(file), "--out", str(folder / "run"), "--quiet", *going_on, *changes])
    return records(folder / "run")


def command(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


def losses(found: list[dict[str, Any]]) -> list[float]:
    return [record["train/loss"] for record in found]


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_of_the_cpu(tmp_path: Path, method: str) -> None:
    on_cpu = losses(train(tmp_path / "cpu", METHODS[method], device="cpu"))
    on_gpu = losses(train(tmp_path / "gpu", METHODS[method], device="cuda"))
    assert on_gpu[0] == pytest.approx(on_cpu[0], rel=2e-3)
    # Adam's first step is the gradient's sign: where that is rounding error, the devices part
    assert on_gpu == pytest.approx(on_cpu, rel=0.03)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", METHODS | RANDOM)
def test_half_precision_trains(tmp_path: Path, method: str, precision: str) -> None:
    plugins = (METHODS | RANDOM)[method]
    whole = losses(train(tmp_path / "whole", plugins, device="cuda", epochs=24))
    half = losses(train(tmp_path / "half", plugins, device="cuda", epochs=24, precision=precision))
    assert all(math.isfinite(loss) for loss in half)
    # both begin with the same weights; drawn samples differ between precisions
    assert half[0] == pytest.approx(whole[0], rel=0.1 if method in RANDOM else 0.05)
    assert mean(half[-4:]) == pytest.approx(mean(whole[-4:]), rel=0.15)


@pytest.mark.parametrize("method", ["supervised", "jtr", "jtr-released", "ial", "pcgrad"])
def test_a_resumed_run_goes_on_where_it_stopped(tmp_path: Path, method: str) -> None:
    """As far from a run that was not stopped as two such runs are from each other: bit for bit where they are."""
    plugins = (METHODS | RANDOM)[method]
    settings = {"device": "cuda", "deterministic": True}
    first = losses(train(tmp_path / "first", plugins, epochs=6, **settings))
    second = losses(train(tmp_path / "second", plugins, epochs=6, **settings))
    train(tmp_path / "third", plugins, epochs=3, **settings)
    third = losses(train(tmp_path / "third", plugins, epochs=6, resume=True, **settings))
    spread = max(abs(a - b) for a, b in zip(first, second, strict=True))
    gap = max(abs(a - b) for a, b in zip(first, third, strict=True))
    assert gap <= max(10 * spread, 0.0)


@pytest.mark.parametrize("method", ["supervised", "jtr", "ial"])
def test_a_compiled_step_computes_the_same(tmp_path: Path, method: str) -> None:
    plain = losses(train(tmp_path / "plain", METHODS[method], device="cuda"))
    compiled = losses(train(tmp_path / "compiled", METHODS[method], device="cuda", compile=True))
    assert compiled == pytest.approx(plain, rel=5e-3)


@pytest.mark.parametrize("method", ["supervised", "jtr", "ial"])
def test_workers_and_pinned_memory_change_nothing(tmp_path: Path, method: str) -> None:
    alone = losses(train(tmp_path / "alone", METHODS[method], device="cuda", deterministic=True))
    workers = losses(train(tmp_path / "workers", METHODS[method], device="cuda", deterministic=True, workers=2))
    assert workers == pytest.approx(alone, rel=1e-4)


def test_a_run_of_the_gpu_is_evaluated_on_the_cpu(tmp_path: Path) -> None:
    train(tmp_path, METHODS["jtr"], device="cuda")
    on_gpu = results(tmp_path / "run")
    command(["evaluate", str(tmp_path / "run"), "--set", "device=cpu"])
    on_cpu = results(tmp_path / "run")
    for metric in ("segmentation/miou", "depth/abs_err", "normals/mean_angle"):
        assert on_cpu[metric] == pytest.approx(on_gpu[metric], rel=0.02)


def results(run: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run / "results.json").read_text("utf-8"))["metrics"]
    return found


def test_images_are_augmented_as_on_the_cpu() -> None:
    images = torch.rand(6, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    plugin = RandAugment()
    on_cpu = plugin.augment(images, torch.Generator().manual_seed(1))
    on_gpu = plugin.augment(images.cuda(), torch.Generator().manual_seed(1))
    assert on_gpu.is_cuda
    # thresholds such as posterize's may fall to either side of a rounding error
    assert (on_gpu.cpu() - on_cpu).abs().mean() < 1e-3
