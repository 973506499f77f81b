"""Half precision: what autocast may round and what it may not, loss scale, clipping, skipped steps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.accelerators.cuda import _check_cuda_matmul_precision
from lightning_fabric.utilities.rank_zero import rank_zero_info
from torch import Tensor

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import Batch, Sample, collate
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.step.step import Step
from mtl_core.testing.toys import Shapes, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer

FAR = 70_000.0
"""A depth that float16 does not have."""


class FarShapes(Shapes):
    """Depths of some metres that bfloat16 would round, one of which is far away."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        depth = 3 + sample.targets["depth"] / 7
        depth[0, 0, 0] = FAR
        return Sample(sample.image, {**sample.targets, "depth": depth})


@plugin
class FarData:
    """Eight samples of it."""

    @hookimpl
    def build_dataset(self, split: str) -> FarShapes:
        return FarShapes(8, (16, 16), split)


@plugin
class Look:
    """Keeps the images before and after augmentation, and the step."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        self.autocast = torch.is_autocast_enabled("cpu")
        self.images = images * 0.7
        return self.images

    @hookimpl
    def compute_regularizer(self, step: Step) -> None:
        self.step = step


@plugin
class Poison:
    """The first batch is not finite."""

    @hookimpl
    def setup(self) -> None:
        self.calls = 0

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images * float("nan") if self.calls == 1 else images


def trainer(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    made = Experiment(
        name="t", plugins=[FarData(), ToyLabels(), ToyNetwork(), *plugins], batch_size=6, validation=0.0,
        device="cpu", **settings,
    )  # fmt: skip
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


def batch_of(t: Trainer) -> Batch:
    data = BlankedDataset(t.session.dataset, t.session.labelled)
    return collate([data[i] for i in range(6)])


def weights(t: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in t.step.parameters()]).clone()


def first_step(t: Trainer) -> Tensor:
    """How far the first step that is taken moves the weights; in fp16 the loss scale may be too large for the first."""
    before = weights(t)
    for _ in range(10):
        t.train_batch(batch_of(t))
        if not torch.equal(weights(t), before):
            break
    return weights(t) - before


@pytest.mark.parametrize("precision", ["32", "bf16", "fp16"])
def test_labels_and_images_reach_the_step_as_they_are(tmp_path: Path, precision: str) -> None:
    t = trainer(tmp_path, Look(), precision=precision)
    batch = batch_of(t)
    t.train_batch(batch)
    look = t.session.hooks.plugins["look"]
    assert not look.autocast
    assert torch.equal(look.step.images[0], batch.images * 0.7)
    for name, target in batch.targets.items():
        assert look.step.targets[name].dtype == target.dtype
        assert torch.equal(look.step.targets[name], target)
    labelled = batch.labelled[:, t.session.tasks.position("depth")]
    assert look.step.valid("depth")[labelled].all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_forward_pass_is_in_half_precision(tmp_path: Path, precision: str) -> None:
    t = trainer(tmp_path, Look(), precision=precision)
    t.train_batch(batch_of(t))
    found = t.session.hooks.plugins["look"].step.predictions["depth"].dtype
    assert found == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]


@pytest.mark.parametrize("precision", ["32", "fp16"])
def test_clipping_limits_the_unscaled_gradient(tmp_path: Path, precision: str) -> None:
    t = trainer(tmp_path, precision=precision, optimizer="sgd", learning_rate=1.0, clip=1e-3)
    torch.testing.assert_close(first_step(t).norm(), torch.tensor(1e-3), rtol=1e-3, atol=0)


def test_the_loss_scale_falls_after_a_step_that_was_skipped(tmp_path: Path) -> None:
    t = trainer(tmp_path, Poison(), precision="fp16", clip=1.0)
    before = weights(t)
    scale = t.fabric.strategy.precision.scaler
    t.train_batch(batch_of(t))
    assert torch.equal(weights(t), before)
    assert scale.get_scale() == 2**15
    assert first_step(t).norm() > 0
    assert t.averages.take()["skipped_steps"] >= 1


@pytest.mark.parametrize("precision", ["32", "fp16"])
def test_momentum_begins_at_zero_even_if_the_first_step_is_skipped(
    tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``empty_like`` gives is whatever the memory held."""
    monkeypatch.setattr(torch, "empty_like", lambda like, **options: torch.full_like(like, 1e3, **options))
    settings = {"precision": precision, "optimizer": "sgd", "momentum": 0.9, "learning_rate": 1e-3}
    plain = trainer(tmp_path / "a", **settings)
    skipped = trainer(tmp_path / "b", Poison(), **settings)
    torch.testing.assert_close(first_step(skipped), first_step(plain), rtol=1e-3, atol=1e-6)
    assert skipped.averages.take()["skipped_steps"] >= 1


@pytest.fixture
def _torch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    benchmark = torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(deterministic)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("_torch_as_it_was")
def test_algorithms_are_those_that_the_experiment_asks_for(tmp_path: Path) -> None:
    """Also behind a run that asked for others."""
    trainer(tmp_path, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    trainer(tmp_path, cudnn_benchmark=True)
    assert torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    trainer(tmp_path)
    assert not torch.backends.cudnn.benchmark


@pytest.mark.usefixtures("_torch_as_it_was")
def test_matrix_products_are_as_exact_as_the_experiment_asks(tmp_path: Path) -> None:
    """Also behind a run that asked for less."""
    trainer(tmp_path, matmul_precision="high")
    assert torch.get_float32_matmul_precision() == "high"
    trainer(tmp_path)
    assert torch.get_float32_matmul_precision() == "highest"


def test_fabric_does_not_name_a_function_where_users_have_a_setting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What Fabric says on a GPU with Tensor Cores, and nothing else, is left out."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "H200")
    with caplog.at_level("INFO"):
        # below its cache, which remembers devices that were never there
        _check_cuda_matmul_precision.__wrapped__(torch.device("cuda", 0))
        rank_zero_info("something else")
    assert caplog.messages == ["something else"]


@pytest.mark.usefixtures("_torch_as_it_was")
def test_timed_algorithms_are_not_deterministic(tmp_path: Path) -> None:
    with pytest.raises(MtlError, match=r"deterministic, cudnn_benchmark: .*use one of the two"):
        trainer(tmp_path, deterministic=True, cudnn_benchmark=True)
