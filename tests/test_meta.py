"""Whole steps on the meta device: a host sync, a data-dependent shape or a tensor left elsewhere raises there."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mtl_backbones import SegNet
from mtl_core import Batch, Experiment
from mtl_core.testing import BlankedDataset, BufferGuard, Session, TrainingStep, collate, prepare
from mtl_ial import IAL
from mtl_jtr import JTR
from mtl_labels import OneLabel, Unlabelled
from mtl_mtpsl import MTPSL
from mtl_randaugment import RandAugment
from mtl_scenes import Scenes

METHODS = {
    "supervised": [],
    "jtr": [JTR()],
    "ial": [IAL(primary="segmentation")],
    "jtr-ial": [JTR(), IAL(primary=("depth", "normals"))],
    "jtr-released": [JTR(variant="released")],
    "mtpsl": [MTPSL()],
    "mtpsl-released": [MTPSL(variant="released"), IAL(primary="segmentation")],
    "mtpsl-unlabelled": [MTPSL()],
    "jtr-forms": [JTR(target="fixed", masked=0.4, substitutes="ema", c_pseudo=0.1)],
    "jtr-unlabelled": [JTR(unlabelled="consistency"), IAL(primary="depth")],
}


def session(*methods: object, scenario: object | None = None) -> Session:
    plugins = [Scenes(size=(32, 32), train=4, test=2), scenario or OneLabel(), SegNet(width=4), *methods]
    return prepare(Experiment(name="meta", plugins=plugins, batch_size=2))


def on(device: str, batch: Batch) -> Batch:
    targets = {name: t.to(device) for name, t in batch.targets.items()}
    return Batch(batch.images.to(device), targets, batch.labelled.to(device), batch.index.to(device))


def batch_of(made: Session) -> Batch:
    data = BlankedDataset(made.dataset, made.labelled)
    return collate([data[i] for i in range(2)])


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_step_has_no_host_sync(name: str) -> None:
    made = session(RandAugment(), *METHODS[name], scenario=Unlabelled() if "unlabelled" in name else None)
    step = TrainingStep(made.network, made.hooks, views=made.hooks.count_views()).to("meta")
    guard = BufferGuard(list(step.buffers()))
    guard.save()
    for number in range(2):
        total, logged = step(on("meta", batch_of(made)), number)
        total.backward()
        step.seam.commit()
        guard.restore(torch.ones((), dtype=torch.bool, device="meta"))
    assert total.device.type == "meta"
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in step.parameters() if p.requires_grad)
    assert all(value.device.type == "meta" for value in logged.values())


@pytest.mark.parametrize("name", METHODS)
def test_a_forward_pass_stays_on_a_cuda_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under FakeTensorMode tensors know their device and mixing two of them raises; no GPU is needed.

    Without RandAugment: what it draws on the host would be fake as well, and could not be read there.
    """
    # autograd's engine asks for the real device; products inside the forward pass give zeros of their inputs' kind
    monkeypatch.setattr(torch.autograd, "grad", zeros)
    made = session(*METHODS[name], scenario=Unlabelled() if "unlabelled" in name else None)
    batch = batch_of(made)
    step = TrainingStep(made.network, made.hooks, views=made.hooks.count_views())
    with FakeTensorMode(allow_non_fake_inputs=False):
        as_fake(step)
        targets = {name: cuda(t) for name, t in batch.targets.items()}
        total, logged = step(Batch(cuda(batch.images), targets, cuda(batch.labelled), cuda(batch.index)), 0)
    assert total.device.type == "cuda"
    assert all(value.device.type == "cuda" for value in logged.values())


def zeros(
    outputs: torch.Tensor, inputs: torch.Tensor | list[torch.Tensor], **options: bool
) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros_like(i) for i in ([inputs] if isinstance(inputs, torch.Tensor) else inputs))


def cuda(real: torch.Tensor) -> torch.Tensor:
    """A fake CUDA tensor of the same shape and type."""
    return torch.empty(tuple(real.shape), dtype=real.dtype, device="cuda")


def as_fake(step: TrainingStep) -> None:
    """Give the module fake CUDA parameters and buffers."""
    for module in step.modules():
        for name, p in list(module._parameters.items()):
            module._parameters[name] = None if p is None else torch.nn.Parameter(cuda(p), p.requires_grad)
        for name, b in list(module._buffers.items()):
            module._buffers[name] = None if b is None else cuda(b)
