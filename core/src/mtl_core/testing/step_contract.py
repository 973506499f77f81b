"""What the contracts of loss rules and regularizers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from mtl_core.hooks.relay import Hooks
from mtl_core.step.step import Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.contract import (
    ODD,
    NothingKept,
    PluginContract,
    Untouched,
    attempt,
    count_views,
    on_meta_device,
    repeats,
    resume,
    same,
    through_a_file,
    under,
)
from mtl_core.testing.factories import make_batch, make_step, masks, to_meta

SAMPLES = 4


class StepContract(PluginContract):
    """What loss rules and regularizers have in common: both look at a :class:`mtl_core.step.Step`."""

    order_matters: ClassVar[bool] = False
    """Whether the order of the tasks has a meaning, such as the first one being primary."""
    views: ClassVar[int] = 1
    """How many views a step has at least; the plugin's own number where that is larger."""

    def make_step(
        self,
        plugin: Any,
        mask: str = "full",
        seed: int = 0,
        rank: int = 0,
        tasks: Tasks | None = None,
        samples: int = SAMPLES,
        size: tuple[int, int] | None = None,
        pyramid: bool = False,
    ) -> Step:
        """A step with as many views as the plugin asks for, and one of the label masks of ``masks()``."""
        tasks = self.tasks if tasks is None else tasks
        labelled = masks(samples, len(tasks))[mask]
        batch = make_batch(tasks, labelled, size=self.image_size if size is None else size, seed=seed)
        return make_step(tasks, batch, max(self.views, count_views(plugin)), seed, rank, pyramid)

    def terms(self, hooks: Hooks, step: Step) -> dict[str, Tensor]:
        """What the hook adds to the loss, by name."""
        raise NotImplementedError

    def total(self, hooks: Hooks, step: Step) -> Tensor:
        return torch.stack([torch.zeros(()), *self.terms(hooks, step).values()]).sum()

    def trains(self, hooks: Hooks, step: Step) -> None:
        """Raise where the total or one of its gradients is not finite, or the backward pass fails."""
        total = self.total(hooks, step)
        assert total.isfinite(), f"the total is {total}"
        for name, gradient in gradients(hooks, step, total).items():
            assert gradient is None or gradient.isfinite().all(), f"gradient of {name} is not finite"

    def tried(self, what: str, plugin: Any, **step: Any) -> None:
        """Set up and train on a step of another form; the plugin may refuse its tasks or size with an MtlError."""

        def run() -> None:
            hooks = self.prepare(plugin, step.get("tasks"), step.get("size"))
            under(0, lambda: self.trains(hooks, self.make_step(plugin, "one label", **step)))

        try:
            attempt(what, run)
        except AssertionError as error:
            raise AssertionError(str(error) if what in str(error) else f"{what}: {error}") from error

    def test_leaves_the_step_as_it_was(self, plugin: Any) -> None:
        for mask in ("one label", "absent"):
            step = self.make_step(plugin, mask)
            hooks = self.prepare(plugin)
            tensors = {
                **parameters(hooks),
                **tensors_of(step),
                **prefixed("predictions", step.predictions),
                **prefixed("targets", step.targets),
            }
            kept = Untouched(tensors, step=step, predictions=step.predictions, targets=step.targets)
            self.terms(hooks, step)
            kept.check()

    def test_leaves_the_backward_pass_to_core(self, plugin: Any) -> None:
        step = self.make_step(plugin)
        hooks = self.prepare(plugin)
        total = self.total(hooks, step)
        sources = {**prefixed("predictions", step.predictions), **parameters(hooks)}
        called = [name for name, source in sources.items() if source.grad is not None]
        assert not called, f"calls backward(): {called} have a gradient already; return the loss and core does it"
        # core adds the tasks' losses and goes through the graph once: the plugin must have left it whole
        both = total + step.task_losses.sum()
        try:
            torch.autograd.backward(both)
        except RuntimeError as error:
            raise AssertionError(
                "the graph of the losses was freed: use torch.autograd.grad(..., retain_graph=True), or no gradient"
            ) from error

    def test_is_finite_whatever_is_labelled(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        for mask in masks(SAMPLES, len(self.tasks)):
            step = self.make_step(plugin, mask)
            total = self.total(hooks, step)
            assert total.isfinite(), f"labels {mask!r}: {total}"
            for name, gradient in gradients(hooks, step, total).items():
                assert gradient is None or gradient.isfinite().all(), f"labels {mask!r}: gradient of {name}"

    def test_same_step_same_value(self, plugin: Any) -> None:
        """Nothing is drawn from a global generator, and a fresh copy does not see what another one did."""
        values = [under(s, lambda: self.total(self.prepare(plugin), self.make_step(plugin))) for s in (1, 2)]
        assert same(values[0].detach(), values[1].detach()), (
            f"two runs of one step differ: {values}; draw from step.generator, keep state in buffers"
        )

    def test_goes_on_where_a_checkpoint_stopped(self, plugin: Any) -> None:
        """Whatever is remembered lies in buffers: a fresh copy with a saved state takes the same next steps."""
        going = self.prepare(plugin)
        last = repeats(going.plugins["plugin"])
        for seed in range(1, last):
            step = self.make_step(plugin, seed=seed)
            self.terms(going, step)
            # an epoch ends in between: what `after_epoch` computes must be saved too
            if seed == 2:
                going.after_epoch(0, epoch_record(self.tasks, step.logged))
        resumed = self.prepare(plugin)
        resume(going, resumed)
        for seed in range(last, last + 3):
            found = [self.terms(hooks, self.make_step(plugin, seed=seed)) for hooks in (going, resumed)]
            differ = [name for name, value in found[0].items() if not same(value.detach(), found[1][name].detach())]
            assert not differ, (
                f"state outside buffers: {differ} is another value after saving and loading; register_buffer what is"
                " remembered, in setup"
            )

    def test_keeps_no_graph(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        step = self.make_step(plugin)
        total = self.total(hooks, step)
        if total.requires_grad:
            torch.autograd.backward(total)
        kept = NothingKept({"the step": step, **prefixed("predictions", step.predictions), "task_losses": step.losses})
        # from here on only the plugin can hold them
        del step, total
        kept.check(*hooks.plugins.values())

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a tensor left on another device raises there."""
        hooks = self.on_meta(plugin)
        # often: a plugin may ask the device every tenth step only
        for mask in ("full", "one label", *["full"] * repeats(hooks.plugins["plugin"])):
            on_meta_device(partial(self.on_meta_step, hooks, to_meta(self.make_step(plugin, mask))))

    def on_meta_step(self, hooks: Hooks, step: Step) -> None:
        total = torch.stack([torch.zeros((), device="meta"), *self.terms(hooks, step).values()])
        if total.requires_grad:
            torch.autograd.backward(total.sum())

    def test_works_for_any_number_of_tasks(self, plugin: Any) -> None:
        for tasks in self.other_tasks():
            self.tried(f"K = {len(tasks)} ({', '.join(tasks.names)})", plugin, tasks=tasks)

    def test_order_of_tasks_does_not_matter(self, plugin: Any) -> None:
        """What is meant for one task is found by its name, not by its place."""
        if self.order_matters:
            return
        hooks = self.prepare(plugin)
        step = self.make_step(plugin)
        # weights and draws are made in the order of the tasks: another order has others, and no fault
        if parameters(hooks) or self.draws(plugin):
            return
        other = turned_round(step)
        found = attempt("tasks in reverse order", lambda: self.total(self.prepare(plugin, other.tasks), other))
        before = self.total(hooks, step)
        assert found is None or torch.allclose(before, found, rtol=1e-4), (
            f"{before} became {found} when the tasks were given in reverse order: look tasks up by name"
        )

    def draws(self, plugin: Any) -> bool:
        """Whether the value depends on the step's generators."""
        step = self.make_step(plugin)
        other = attrs.evolve(self.make_step(plugin), generator=seeded(7), shared=seeded(8))
        one, two = (self.total(self.prepare(plugin), s).detach() for s in (step, other))
        return not same(one, two)

    def test_takes_a_batch_of_one(self, plugin: Any) -> None:
        self.tried("a batch of one sample", plugin, samples=1)

    def test_takes_odd_sizes(self, plugin: Any) -> None:
        self.tried(f"images of {ODD[0]} × {ODD[1]} pixels", plugin, size=ODD)

    def test_takes_a_pyramid(self, plugin: Any) -> None:
        self.tried("z as a pyramid, whose levels are coarser than the image", plugin, pyramid=True)

    def test_learns_what_setup_made_and_saves_it(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        copy = hooks.plugins["plugin"]
        before = names(hooks.plugins["plugin"])
        self.terms(hooks, self.make_step(plugin))
        assert names(copy) == before, "parameters or buffers were made in a step; make them in setup"
        if before:
            fresh = self.prepare(plugin).plugins["plugin"]
            fresh.load_state_dict(through_a_file(copy.state_dict()))

    def test_its_parameter_groups_hold_its_own_parameters(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        own = {id(parameter) for parameter in parameters(hooks).values()}
        for group in hooks.parameter_groups(1e-3):
            assert {id(p) for p in group["params"]} <= own, "a group holds parameters that the plugin does not have"

    def test_logs_scalars(self, plugin: Any) -> None:
        step = self.make_step(plugin)
        self.terms(self.prepare(plugin), step)
        wrong = {name: tuple(value.shape) for name, value in step.logged.items() if value.ndim}
        assert not wrong, f"logged values that are no scalars: {wrong}"
        graphs = [name for name, value in step.logged.items() if value.requires_grad]
        assert not graphs, f"keeps the graph alive: logged values {graphs} have a gradient; use step.log"


def epoch_record(tasks: Tasks, logged: Mapping[str, Tensor]) -> dict[str, float]:
    """What ``after_epoch`` may be given: losses, what a step logged, and the metrics of validation."""
    losses = {f"train/loss/{name}": 1.5 + k for k, name in enumerate(tasks.names)}
    metrics = {f"val/{task.name}/{task.headline}": 1.0 + k for k, task in enumerate(tasks)}
    own = {name: float(value) for name, value in logged.items()}
    return {"train/loss": 3.0, "learning_rate": 1e-3, **losses, **metrics, **own}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turned_round(step: Step) -> Step:
    """The step with its tasks in reverse order."""
    tasks = Tasks(list(step.tasks)[::-1])
    columns: dict[str, Any] = {
        name: getattr(step, name).flip(-1) for name in ("labelled", "losses", "task_losses", "task_means", "active")
    }
    entries: dict[str, Any] = {name: dict(reversed(getattr(step, name).items())) for name in ("predictions", "targets")}
    return attrs.evolve(step, tasks=tasks, **columns, **entries, logged={})


def tensors_of(step: Step) -> dict[str, Tensor]:
    found = attrs.asdict(step, recurse=False, filter=lambda field, value: isinstance(value, Tensor))
    levels = step.features if isinstance(step.features, tuple) else ()
    return {**found, **{f"features[{k}]": level for k, level in enumerate(levels)}}


def prefixed(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}


def parameters(hooks: Hooks) -> dict[str, Tensor]:
    plugin = hooks.plugins["plugin"]
    return dict(plugin.named_parameters(prefix="plugin")) if isinstance(plugin, nn.Module) else {}


def names(plugin: Any) -> list[str]:
    return list(plugin.state_dict()) if isinstance(plugin, nn.Module) else []


def gradients(hooks: Hooks, step: Step, total: Tensor) -> dict[str, Tensor | None]:
    """Gradients at the predictions and at the plugin's parameters; None where the total does not depend on them."""
    sources = {**prefixed("predictions", step.predictions), **parameters(hooks)}
    if not total.requires_grad:
        return dict.fromkeys(sources)
    found = torch.autograd.grad(total, list(sources.values()), retain_graph=True, allow_unused=True)
    return dict(zip(sources, found, strict=True))
