"""The seam and IAL's formulas in other people's training loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core import seam
from mtl_ial import encoder_weight, impartial_weights, uncertainty_loss

ALL = torch.ones(3, dtype=torch.bool)
PRIMARY = torch.tensor([True, False, False])
SIGMA = torch.tensor([0.9, 0.7, 0.95], dtype=torch.float64)


def modules() -> tuple[nn.Module, nn.ModuleList, Tensor]:
    torch.manual_seed(0)
    heads = nn.ModuleList(nn.Linear(6, 2).double() for _ in range(3))
    return nn.Linear(4, 6).double(), heads, torch.randn(5, 4, dtype=torch.float64)


def losses_of(heads: nn.ModuleList, copies: list[Any]) -> Tensor:
    return torch.stack([(k + 1) * h(z).square().mean() for k, (h, z) in enumerate(zip(heads, copies, strict=True))])


def ial(branches: tuple[seam.Branch, ...], scale: Tensor) -> Tensor:
    return impartial_weights(seam.gramian(branches, scale), encoder_weight(SIGMA), PRIMARY, 1 / (2 * SIGMA**2), ALL)


def expected(encoder: nn.Module, heads: nn.ModuleList, x: Tensor) -> Tensor:
    """b_pri + Σ f(σ) ‖b_pri‖/‖b_t‖ b_t by a backward pass per task of the plain losses."""
    z = encoder(x)
    b = [torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in losses_of(heads, [z] * 3)]
    shaped = b[0] + sum((1 - SIGMA[t]) * b[0].norm() / b[t].norm() * b[t] for t in (1, 2))
    return torch.autograd.grad(z, encoder.weight, shaped)[0]


def total_of(encoder: nn.Module, heads: nn.ModuleList, x: Tensor) -> Tensor:
    scale = seam.LossScale()
    losses = losses_of(heads, seam.branch(encoder(x), 3, ial, scale))
    return scale.apply(uncertainty_loss(losses, losses, ALL, SIGMA.log()))


@pytest.mark.parametrize("factor", [1.0, 1024.0])
def test_a_plain_loop(factor: float) -> None:
    """Also with the loss scaled, as fp16 does."""
    encoder, heads, x = modules()
    (total_of(encoder, heads, x) * factor).backward()
    torch.testing.assert_close(encoder.weight.grad / factor, expected(encoder, heads, x), rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore")  # Lightning's own, against newer releases of torch and others
def test_a_lightning_module() -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed; it is no dependency")
    encoder, heads, x = modules()

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.heads = heads

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            return total_of(self.encoder, self.heads, batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    before = encoder.weight.detach().clone()
    gradient = expected(encoder, heads, x)
    silent = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_steps=1, accelerator="cpu", **silent)
    trainer.fit(Module(), torch.utils.data.DataLoader(x, batch_size=5, shuffle=False))
    torch.testing.assert_close(before - encoder.weight.detach(), gradient, rtol=1e-8, atol=1e-10)
