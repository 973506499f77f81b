"""A whole training step: what enters the encoder, what is kept, what is skipped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import Batch, collate
from mtl_core.errors import ContractError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.step.step import Step
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork, ToyShaper, ToyWatcher
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import Session, prepare
from mtl_core.training.step import TrainingStep
from mtl_core.training.trainer import Trainer

DATA = (ToyData(), ToyLabels(), ToyNetwork())


@plugin
class Undecided:
    """Has a place and does not fill it."""

    @hookimpl
    def shape_encoder_gradient(self) -> None:
        return None


@plugin
class Pull:
    """Pulls every prediction towards zero."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"pull": torch.stack([p.square().mean() for p in step.predictions.values()]).sum()}


def session_of(*plugins: object, **settings: object) -> Session:
    return prepare(Experiment(name="t", plugins=[*DATA, *plugins], batch_size=6, validation=0.0, **settings))


def batch_of(session: Session) -> Batch:
    data = BlankedDataset(session.dataset, session.labelled)
    return collate([data[i] for i in range(6)])


def gradients(session: Session) -> dict[str, Tensor]:
    step = TrainingStep(session.network, session.hooks)
    total, _ = step(batch_of(session), 0)
    total.backward()
    return {name: p.grad for name, p in session.network.named_parameters() if p.grad is not None}


def test_without_a_shaper_the_seam_is_absent_and_with_weights_one_it_changes_nothing() -> None:
    plain = gradients(session_of())
    shaped = gradients(session_of(ToyShaper()))
    for name, gradient in plain.items():
        factor = 0.5 if name.startswith("backbone") else 1.0
        torch.testing.assert_close(shaped[name], factor * gradient, rtol=1e-5, atol=1e-9)


def test_who_watches_changes_nothing_and_sees_what_is_not_shaped_yet() -> None:
    plain = gradients(session_of())
    watched = session_of(ToyWatcher())
    for name, gradient in gradients(watched).items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-5, atol=1e-9)
    both = session_of(ToyShaper(), ToyWatcher(), ToyWatcher())
    found = gradients(both)
    for name, gradient in gradients(session_of(ToyShaper())).items():
        torch.testing.assert_close(found[name], gradient)


@pytest.mark.parametrize("others", [(), (ToyShaper(),)])
def test_what_is_watched_is_kept_for_every_plugin(tmp_path: Path, others: tuple[object, ...]) -> None:
    t = trainer(tmp_path, *others, ToyWatcher(), ToyWatcher())
    t.train_batch(batch_of(t.session))
    watchers = [t.session.hooks.plugins[name] for name in ("toywatcher", "toywatcher#2")]
    seen = torch.stack([t.step.seam.logged[f"encoder/norm/{name}"] for name in t.session.tasks.names])
    assert (seen > 0).all()
    for watcher in watchers:
        torch.testing.assert_close(watcher.norms, seen)
        assert watcher.count == 1
    assert all(t.session.hooks.plugins["toyshaper"].count == 1 for _ in others)


def test_a_shaper_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match='plugin "undecided": shape_encoder_gradient returned None'):
        gradients(session_of(Undecided()))


def test_what_a_regularizer_sends_through_the_heads_passes_the_seam() -> None:
    """A regularizer whose own backward ran before the shaped gradient was written would be lost here."""
    plain = gradients(session_of(Pull()))
    shaped = gradients(session_of(Pull(), ToyShaper()))
    without = gradients(session_of())
    name = "backbone.0.weight"
    torch.testing.assert_close(shaped[name], 0.5 * plain[name], rtol=1e-5, atol=1e-9)
    assert (plain[name] - without[name]).norm() > 0.01 * without[name].norm()


def trainer(tmp_path: Path, *plugins: object, **settings: object) -> Trainer:
    session = session_of(*plugins, device="cpu", **settings)
    fabric = make_fabric(session.experiment)
    return Trainer(session, fabric, RunFolder(tmp_path))


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_precisions_train(tmp_path: Path, precision: str) -> None:
    t = trainer(tmp_path, ToyShaper(), Pull(), precision=precision, epochs=2)
    t.fit()
    first, last = RunFolder(tmp_path).history()
    assert last["train/loss"] < first["train/loss"]
    assert last["skipped_steps"] == 0


@pytest.mark.parametrize(("unit", "reported"), [("avx512_bf16", False), ("amx_bf16", False), ("avx2", True)])
def test_a_cpu_without_bfloat16_is_reported(unit: str, reported: bool, monkeypatch: Any, caplog: Any) -> None:
    found = {"architecture": "x86_64", unit: True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    for precision in ("32", "bf16"):
        make_fabric(session_of(device="cpu", precision=precision).experiment)
    assert sum("emulates bfloat16" in record.message for record in caplog.records) == reported


def test_a_frozen_head_does_not_move(tmp_path: Path) -> None:
    t = trainer(tmp_path, freeze=("depth",), learning_rate=1e-2)
    before = {n: v.clone() for n, v in t.step.network.heads.state_dict().items()}
    t.train_batch(batch_of(t.session))
    for name, value in t.step.network.heads.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("depth")


@plugin
class Deepest:
    """Keeps what the step says of the encoder's coarsest features, and the label mask of the run."""

    @hookimpl
    def setup(self, labelled: Tensor | None) -> None:
        self.labelled = labelled

    @hookimpl
    def compute_regularizer(self, step: Step) -> None:
        self.deepest = step.deepest
        self.features = step.features


class Named(nn.Module):
    """A backbone that names its coarsest features."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.channels = inner.channels

    def with_deepest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(images), images[:, :, ::8, ::8]


def test_a_step_has_the_encoders_coarsest_features_and_setup_the_runs_label_mask() -> None:
    session = session_of(Deepest())
    kept = next(p for p in session.hooks.plugins.values() if isinstance(p, Deepest))
    TrainingStep(session.network, session.hooks)(batch_of(session), 0)
    assert kept.deepest is kept.features
    assert torch.equal(kept.labelled, session.labelled)
    session.network.backbone = Named(session.network.backbone)
    TrainingStep(session.network, session.hooks)(batch_of(session), 0)
    assert torch.equal(kept.deepest, batch_of(session).images[:, :, ::8, ::8])


@plugin
class Draws:
    """Notes what a step's generators give."""

    @hookimpl
    def combine_losses(self, losses: Tensor, step: Step) -> Tensor:
        self.own, self.shared = (torch.rand(3, generator=g).tolist() for g in (step.generator, step.shared))
        return losses.sum()


def draws(rank: int, number: int) -> tuple[list[float], list[float]]:
    session = session_of(Draws())
    TrainingStep(session.network, session.hooks, rank=rank)(batch_of(session), number)
    kept = next(p for p in session.hooks.plugins.values() if isinstance(p, Draws))
    return kept.own, kept.shared


def test_ranks_share_one_generator_and_have_one_of_their_own() -> None:
    own, shared = draws(0, 5)
    other_own, other_shared = draws(1, 5)
    _, later = draws(0, 6)
    assert own != other_own
    assert shared == other_shared
    assert shared not in (own, later)
