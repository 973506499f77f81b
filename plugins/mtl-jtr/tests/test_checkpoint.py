"""``checkpoint = true`` keeps less for the backward pass and changes nothing else."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from mtl_core import Step
from mtl_core.testing import StubBackbone, make_batch, make_step, make_tasks, with_losses
from mtl_jtr import JTR
from mtl_nn import Autoencoder, Latent

TASKS = make_tasks("segmentation", "depth", "normals")
SOME = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)

OPTIONS: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "upsampling": {"unpool": "upsample", "channels_last": False},
    "the encoder trained by the reconstruction": {"train_encoder_on": "reconstruction"},
    "no reconstruction": {"reconstruct": False, "distance": "l1", "per_location": True},
    "two views": {"unlabelled": "consistency", "centred": True},
    "a switch": {"depth_as": "cdf"},
    "released": {"variant": "released"},
    "released, the encoder trained by the reconstruction": {
        "variant": "released",
        "train_encoder_on": "reconstruction",
    },
    "averages": {"network": "averages"},
    "smooth": {"network": "smooth"},
    "a fixed target": {"target": "fixed"},
    "a masked reconstruction": {"masked": 0.4},
    "averages, no reconstruction": {"network": "averages", "reconstruct": False},
    "the backbone's kind": {"network": "backbone"},
}


class Dropping(nn.Module):
    """A backbone whose autoencoders draw random numbers and keep running averages."""

    width = 4
    norm = "batch"

    def autoencoder(self, in_channels: int, out_channels: int, bottleneck: int | None) -> nn.Module:
        return DroppingAutoencoder(in_channels, out_channels)


class DroppingAutoencoder(Autoencoder):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4)
        self.first = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(in_channels))
        self.inner: Any = self.encoder
        del self.encoder  # a SegNet there would be run level by level

    def encode(self, x: Tensor) -> Latent:
        latent: Latent = self.inner(self.first(x))
        return latent


def jtr(backbone: nn.Module | None = None, **options: Any) -> JTR:
    torch.manual_seed(0)
    made = JTR(**options)
    found = backbone or (Dropping() if options.get("network") == "backbone" else StubBackbone(4))
    made.setup("jtr", TASKS, found, nn.ModuleDict())
    return made


def step_of(made: JTR) -> Step:
    step = make_step(TASKS, make_batch(TASKS, SOME, size=(32, 40)), views=made.views)

    def moved(value: Tensor) -> Tensor:
        return value.detach().double().requires_grad_(value.requires_grad) if value.is_floating_point() else value

    return with_losses(
        attrs.evolve(
            step,
            predictions={name: moved(p) for name, p in step.predictions.items()},
            targets={name: moved(t) for name, t in step.targets.items()},
        )
    )


def taken(made: JTR, weights: tuple[float, ...] = (1.0, 1.0, 1.0)) -> dict[str, Tensor]:
    """Every term, every gradient of their weighted sum, and what the step left in buffers and in the log."""
    made = made.double()
    step = step_of(made)
    torch.manual_seed(1)
    terms = made.compute_regularizer(step)
    total = torch.stack([w * term for w, term in zip(weights, terms.values(), strict=False)]).sum()
    wanted = {f"at {n}": p for n, p in step.predictions.items()} | {f"of {n}": p for n, p in made.g.named_parameters()}
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    gradients = {n: torch.zeros(()) if g is None else g for n, g in zip(wanted, found, strict=True)}
    drawn = {"the next random number": torch.rand(())}
    return {**terms, **gradients, **dict(made.named_buffers()), **step.logged, **drawn}


@pytest.mark.parametrize("name", OPTIONS)
def test_terms_gradients_and_running_averages_are_the_same(name: str) -> None:
    plain = taken(jtr(**OPTIONS[name]), (0.5, 0.3, 0.7))
    found = taken(jtr(checkpoint=True, **OPTIONS[name]), (0.5, 0.3, 0.7))
    assert list(found) == list(plain)
    for key, value in found.items():
        torch.testing.assert_close(value, plain[key], rtol=1e-9, atol=1e-12, msg=partial("{}: {}".format, key))
    assert any(value.abs().max() > 0 for key, value in found.items() if key.startswith("at "))


def test_random_numbers_of_the_encoder_are_drawn_again_as_they_were() -> None:
    """The test above shows nothing if g's encoder draws none."""
    made = jtr(network="backbone").double()
    stack = torch.rand(4, sum(t.label_channels for t in TASKS), 32, 32).double()
    g: Any = made.g
    first, second = (g.encode(stack).features for _ in range(2))
    assert not torch.equal(first, second)


def saved(made: JTR) -> int:
    """Bytes that the graph of the terms keeps, without parameters."""
    step = make_step(TASKS, make_batch(TASKS, SOME, size=(64, 64)), views=made.views)
    own = {p.untyped_storage().data_ptr() for p in made.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        terms = made.compute_regularizer(step)
    assert terms
    return sum(x.untyped_storage().nbytes() for x in kept.values())


@pytest.mark.parametrize("options", [{}, {"variant": "released"}], ids=["paper", "released"])
def test_less_is_kept_for_the_backward_pass(options: dict[str, Any]) -> None:
    assert saved(jtr(checkpoint=True, **options)) < 0.5 * saved(jtr(**options))


def test_a_backward_pass_can_be_repeated() -> None:
    made = jtr(checkpoint=True).double()
    step = step_of(made)
    total = torch.stack(list(made.compute_regularizer(step).values())).sum()
    wanted = [*made.g.parameters(), *step.predictions.values()]
    once = torch.autograd.grad(total, wanted, retain_graph=True)
    for first, second in zip(once, torch.autograd.grad(total, wanted), strict=True):
        assert torch.equal(first, second)


def test_every_gradient_is_accumulated_once() -> None:
    """As often as DDP's hooks are called; in the forward pass never."""
    made = jtr(checkpoint=True).double()
    calls: Counter[Tensor] = Counter()
    for p in made.g.parameters():
        p.register_post_accumulate_grad_hook(lambda parameter: calls.update([parameter]))  # type: ignore[no-untyped-call]
    total = torch.stack(list(made.compute_regularizer(step_of(made)).values())).sum()
    assert not calls
    total.backward()  # type: ignore[no-untyped-call]
    assert calls == Counter(made.g.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("network", ["segnet", "averages"])
def test_the_second_encoding_is_cast_as_the_first(network: str, dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    results = []
    for checkpoint in (False, True):
        made = jtr(checkpoint=checkpoint, network=network)
        convolution = next(m for m in made.g.modules() if isinstance(m, nn.Conv2d))
        convolution.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
        step = make_step(TASKS, make_batch(TASKS, SOME, size=(32, 32)))
        with torch.autocast("cpu", dtype):
            total = torch.stack(list(made.compute_regularizer(step).values())).sum()
        wanted = [*step.predictions.values(), *made.g.parameters()]
        results.append(torch.autograd.grad(total * 64, wanted))
    assert set(seen) == {dtype}
    assert len(seen) == 2 + 4
    for one, other in zip(*results, strict=True):
        assert other.isfinite().all()
        torch.testing.assert_close(other, one, rtol=0.1, atol=0.1 * float(one.abs().max()) + 1e-3)
