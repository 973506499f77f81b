"""Optimizer steps: of several micro-batches, skipped ones, looks ahead."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import Batch, collate
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.step.step import Step
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork, ToyShaper, ToyWatcher
from mtl_core.training.fabric import make_fabric
from mtl_core.training.optimizer_steps import _looks_ahead
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class Look:
    """Keeps what every micro-batch's losses are, and a number that its step draws."""

    @hookimpl
    def setup(self) -> None:
        self.steps: list[Step] = []
        self.drawn: list[float] = []

    @hookimpl
    def compute_regularizer(self, step: Step) -> None:
        self.steps.append(step)
        self.drawn.append(float(torch.rand(())))


def randomly_labelled(samples: int = 15) -> tuple[ToyData, ToyLabels]:
    """Images with random labels: none, one or several each."""
    return ToyData(samples=samples, size=(8, 8)), ToyLabels(share=0.45)


def trainer(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    options: dict[str, Any] = {
        "epochs": 1,
        "validation": 0.0,
        "device": "cpu",
        "optimizer": "sgd",
        "learning_rate": 0.1,
    } | settings
    made = Experiment(name="t", plugins=[*plugins, ToyNetwork()], **options)
    folder.mkdir(exist_ok=True)
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


def toy_trainer(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    return trainer(folder, ToyData(samples=12, size=(8, 8)), ToyLabels(), *plugins, **{"batch_size": 6} | settings)


def batch_of(t: Trainer) -> Batch:
    data = BlankedDataset(t.session.dataset, t.session.labelled)
    return collate([data[i] for i in range(6)])


def broken(batch: Batch) -> Batch:
    return batch._replace(images=batch.images * float("nan"))


def weights(t: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in t.step.parameters()])


@pytest.mark.parametrize("normalize", ["sample", "task", "none"])
def test_micro_batches_give_the_gradient_of_one_batch(tmp_path: Path, normalize: str) -> None:
    """Also where a task's labels fall unevenly on them: 6 · 2 samples in two steps of one or of two batches."""
    whole = trainer(tmp_path / "a", *randomly_labelled(12), batch_size=6, normalize=normalize)
    parts = trainer(tmp_path / "b", *randomly_labelled(12), batch_size=3, accumulate=2, normalize=normalize)
    before = weights(whole).clone()
    for t in (whole, parts):
        t.fit()
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-4, atol=1e-6)
    assert (weights(whole) - before).norm() > 1e-2


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    whole = toy_trainer(tmp_path / "a")
    parts = toy_trainer(tmp_path / "b", accumulate=2)
    both = batch_of(whole)
    halves = [Batch(both.images[h], {n: t[h] for n, t in both.targets.items()}, both.labelled[h], both.index[h])
              for h in (slice(0, 3), slice(3, 6))]  # fmt: skip
    whole.steps.train_batch(both)
    for half in halves:
        parts.steps.train_batch(half)
    for (name, a), b in zip(whole.step.state_dict().items(), parts.step.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


def test_the_last_step_of_an_epoch_counts_the_batches_that_it_has(tmp_path: Path) -> None:
    """Five batches of 3 in steps of 2, 2 and 1: L_t of a step is the sum over its labels by their number."""
    t = trainer(tmp_path, *randomly_labelled(), Look(), batch_size=3, accumulate=2, normalize="task")
    t.fit()
    steps = t.session.hooks.plugins["look"].steps
    for window in (steps[:2], steps[2:4], steps[4:]):
        found = torch.stack([step.task_losses for step in window]).mean(0)
        counts = torch.cat([step.labelled for step in window]).sum(0)
        expected = torch.cat([step.losses for step in window]).sum(0) / counts.clamp(min=1)
        torch.testing.assert_close(found, expected)


def expected_labels(t: Trainer) -> list[list[float] | None]:
    """What the training step is told of the labels of each micro-batch of an epoch."""
    seen: list[list[float] | None] = []
    t.step.register_forward_pre_hook(
        lambda step, inputs: seen.append(None if inputs[2] is None else inputs[2].tolist())
    )
    t.fit()
    return seen


def test_expected_labels_are_the_mean_over_the_micro_batches_of_a_step(tmp_path: Path) -> None:
    t = trainer(tmp_path, *randomly_labelled(), Look(), batch_size=3, accumulate=2, normalize="task")
    seen = expected_labels(t)
    counts = [step.labelled.sum(0) for step in t.session.hooks.plugins["look"].steps]
    means = [((counts[first] + counts[first + 1]) / 2).tolist() for first in (0, 2)]
    # a step of one micro-batch counts its own labels
    assert seen == [means[0], means[0], means[1], means[1], None]


@pytest.mark.parametrize("settings", [{"normalize": "sample", "accumulate": 2}, {"normalize": "task"}])
def test_where_a_loss_does_not_depend_on_them_no_labels_are_counted(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert set(expected_labels(trainer(tmp_path, *randomly_labelled(), batch_size=3, **settings))) == {None}


def test_only_the_last_micro_batch_of_a_step_moves_the_weights(tmp_path: Path) -> None:
    t = toy_trainer(tmp_path, batch_size=2, accumulate=3)
    moved = []
    for _ in range(6):
        before = weights(t).clone()
        t.steps.train_batch(batch_of(t))
        moved.append(not torch.equal(weights(t), before))
    assert moved == [False, False, True, False, False, True]
    assert (t.position.batch, t.position.micro_step) == (6, 6)


def test_a_micro_batch_draws_by_its_number_whatever_was_drawn_before(tmp_path: Path) -> None:
    first, second = (toy_trainer(tmp_path / name, Look(), batch_size=4) for name in ("a", "b"))
    for _ in range(3):
        first.steps.train_batch(batch_of(first))
    second.position.micro_step = 2
    torch.manual_seed(99)
    second.steps.train_batch(batch_of(second))
    drawn = first.session.hooks.plugins["look"].drawn
    assert len(set(drawn)) == 3
    assert second.session.hooks.plugins["look"].drawn == drawn[2:]


def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    t = toy_trainer(tmp_path, ToyShaper(), ToyWatcher(), learning_rate=1e-2)
    clean = batch_of(t)
    moved = []
    for batch in (clean, clean, broken(clean), clean):
        before = {n: v.clone() for n, v in t.step.state_dict().items()}
        t.steps.train_batch(batch)
        after = t.step.state_dict()
        moved.append(any(not torch.equal(before[n], after[n]) for n in before))
    assert moved == [True, True, False, True]
    assert t.averages.take()["skipped_steps"] == 1
    assert [t.session.hooks.plugins[name].count for name in ("toyshaper", "toywatcher")] == [3, 3]
    assert t.session.hooks.plugins["toywatcher"].norms.isfinite().all()


def test_one_broken_micro_batch_skips_its_whole_step(tmp_path: Path) -> None:
    """What the shaper remembers of the sound one before it is undone too, and no gradient of it is left."""
    t = toy_trainer(tmp_path / "a", ToyShaper(), batch_size=3, accumulate=2)
    fresh = toy_trainer(tmp_path / "b", ToyShaper(), batch_size=3, accumulate=2)
    clean = batch_of(t)
    for batch in (clean, broken(clean)):
        t.steps.train_batch(batch)
    assert torch.equal(weights(t), weights(fresh))
    assert t.session.hooks.plugins["toyshaper"].count == 0
    for each in (t, fresh):
        for _ in range(2):
            each.steps.train_batch(clean)
    assert torch.equal(weights(t), weights(fresh))
    assert t.averages.take()["skipped_steps"] == 1


def test_a_skipped_step_leaves_optimizer_and_average(tmp_path: Path) -> None:
    t = toy_trainer(tmp_path, optimizer="adam", ema=0.9)
    clean = batch_of(t)
    t.steps.train_batch(clean)
    average = {name: value.clone() for name, value in t.wrapped.evaluated.state_dict().items()}
    moments = [values["exp_avg"].clone() for values in t.raw_optimizer.state.values()]
    t.steps.train_batch(broken(clean))
    assert all(torch.equal(value, average[name]) for name, value in t.wrapped.evaluated.state_dict().items())
    left = [values["exp_avg"] for values in t.raw_optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(left, moments, strict=True))
    t.steps.train_batch(clean)
    assert any(not torch.equal(value, average[name]) for name, value in t.wrapped.evaluated.state_dict().items())


@plugin
class Counter(nn.Module):
    """Counts its steps in buffers, before and after each."""

    @hookimpl
    def setup(self) -> None:
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("done", torch.zeros(()))

    @hookimpl
    def before_step(self) -> None:
        self.count += 1

    @hookimpl
    def after_step(self) -> None:
        self.done += 1


def test_plugins_look_ahead_once_for_each_optimizer_step(tmp_path: Path) -> None:
    t = toy_trainer(tmp_path, Counter(), batch_size=3, epochs=2, accumulate=3)
    t.fit()  # 4 batches in an epoch: steps of 3 and of 1
    counter = t.session.hooks.plugins["counter"]
    assert (counter.count, counter.done) == (4, 4)


def test_a_skipped_step_takes_back_what_was_noted_around_it(tmp_path: Path) -> None:
    t = toy_trainer(tmp_path, Counter())
    clean = batch_of(t)
    for batch in (clean, broken(clean), clean):
        t.steps.train_batch(batch)
    counter = t.session.hooks.plugins["counter"]
    assert (counter.count, counter.done) == (2, 2)
    assert t.averages.take()["skipped_steps"] == 1


def test_without_a_plugin_that_looks_ahead_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl_core.training.optimizer_steps.StepAhead", None)
    t = toy_trainer(tmp_path)
    t.fit()
    assert not t.data.second.running


def test_a_strategy_that_splits_parameters_is_refused() -> None:
    hooks = Hooks({"counter": Counter()}, required=())
    splits: Any = SimpleNamespace(strategy=object())
    with pytest.raises(MtlError, match='use strategy = "ddp"'):
        _looks_ahead(hooks, splits)
    assert not _looks_ahead(Hooks({}, required=()), splits)
