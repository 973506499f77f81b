"""Contract of what adds losses on predictions and labels."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtl_core.hooks.relay import Hooks
from mtl_core.step.step import Step
from mtl_core.testing.factories import masks, other_invalid_values, with_losses
from mtl_core.testing.kinds import other_channels
from mtl_core.testing.step_contract import SAMPLES, StepContract, gradients
from mtl_core.training.losses import global_term


class RegularizerContract(StepContract):
    """``compute_regularizer``: named losses on predictions and labels."""

    hook = "compute_regularizer"
    adds_nothing: ClassVar[bool] = False
    """Whether the plugin returns None in the tested experiment."""
    trained: ClassVar[tuple[str, ...] | None] = None
    """Tasks whose heads the terms may train; None where they may train all."""

    def raw(self, hooks: Hooks, step: Step) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        found = hooks.compute_regularizer(step)
        return {name.removeprefix("plugin/"): term for name, term in found.items() if name.startswith("plugin/")}

    def terms(self, hooks: Hooks, step: Step) -> dict[str, Tensor]:
        return {name: global_term(term) for name, term in self.raw(hooks, step).items()}

    def test_terms_are_scalars_or_sums_with_counts(self, plugin: Any) -> None:
        for name, term in self.raw(self.prepare(plugin), self.make_step(plugin)).items():
            parts = (term,) if isinstance(term, Tensor) else term
            shapes = [tuple(part.shape) for part in parts]
            assert shapes in ([()], [(), ()]), f"{name}: shapes {shapes}, expected a scalar or (sum, count)"
            assert parts[0].is_floating_point(), f"{name}: {parts[0].dtype}"

    def test_has_the_same_terms_whatever_is_labelled(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        found = {mask: set(self.raw(hooks, self.make_step(plugin, mask))) for mask in masks(SAMPLES, len(self.tasks))}
        assert all(terms == found["full"] for terms in found.values()), f"terms by labels: {found}; return a zero"
        assert bool(found["full"]) is not self.adds_nothing, f"adds_nothing = {self.adds_nothing}, terms {found}"

    def test_builds_the_same_graph_whatever_is_labelled(self, plugin: Any) -> None:
        """On several ranks a parameter that only some of them reach makes the others wait for ever."""
        reached: dict[str, set[str]] = {}
        for mask in masks(SAMPLES, len(self.tasks)):
            hooks = self.prepare(plugin)
            step = self.make_step(plugin, mask)
            for name, term in self.terms(hooks, step).items():
                assert term.requires_grad, f"labels {mask!r}: {name} does not depend on its inputs"
            found = gradients(hooks, step, self.total(hooks, step))
            reached[mask] = {name for name, g in found.items() if g is not None and name.startswith("plugin.")}
        for mask, parts in reached.items():
            assert parts == reached["full"], f"labels {mask!r}: only {parts} are reached, not {reached['full']}"

    def test_every_parameter_is_trained(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        step = self.make_step(plugin, "one label")
        total = self.total(hooks, step)
        # parameters that only the loss rule trains, such as σ, are reached through it
        if "combine_losses" in hooks.places:
            total = total + hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
        idle = [n for n, g in gradients(hooks, step, total).items() if g is None and n.startswith("plugin.")]
        assert not idle, f"parameters without gradient: {idle}"

    def test_computes_half_precision_in_float32(self, plugin: Any) -> None:
        """Under autocast predictions and z are bfloat16, of which a sum over pixels keeps two digits."""
        hooks = self.prepare(plugin)
        step = in_bfloat16(self.make_step(plugin, "one label"))
        with torch.autocast("cpu", torch.bfloat16):
            terms = self.raw(hooks, step)
        for name, term in terms.items():
            kind = (term if isinstance(term, Tensor) else term[0]).dtype
            assert kind == torch.float32, f"{name}: {kind}; promote predictions to float32 before losses are computed"
        total = torch.stack([torch.zeros(()), *map(global_term, terms.values())]).sum()
        for name, gradient in gradients(hooks, step, total).items():
            assert gradient is None or gradient.isfinite().all(), f"gradient of {name}"

    def test_sums_in_single_precision(self, plugin: Any) -> None:
        """One float32 factor at the end hides a mean over pixels that was taken in half precision."""
        hooks = self.prepare(plugin)
        step = in_bfloat16(self.make_step(plugin, "one label"))
        watch = HalfSums(limit=8 * len(step.labelled))
        with torch.autocast("cpu", torch.bfloat16), watch:
            self.raw(hooks, step)
        assert not watch.found, (
            f"{watch.found[0]} is taken in bfloat16, which keeps two digits; promote predictions with .float() before"
            " losses are computed from them"
        )

    def test_heads_that_get_nothing_get_nothing(self, plugin: Any) -> None:
        if self.trained is None:
            return
        hooks = self.prepare(plugin)
        step = self.make_step(plugin)
        found = gradients(hooks, step, self.total(hooks, step))
        reached = [n for n in step.tasks.names if (g := found[f"predictions.{n}"]) is not None and g.any()]
        wrong = [name for name in reached if name not in self.trained]
        assert not wrong, f"trains the heads of {wrong}, beside {list(self.trained)}; detach their predictions"

    def test_labels_get_no_gradient(self, plugin: Any) -> None:
        """Labels are data: a target is made of a copy."""
        hooks = self.prepare(plugin)
        step = self.make_step(plugin)
        self.terms(hooks, step)
        learning = [name for name, target in step.targets.items() if target.requires_grad]
        assert not learning, f"a gradient flows into the labels {learning}; use a detached copy"

    def test_takes_a_kind_whose_head_has_other_channels(self, plugin: Any) -> None:
        """A head may give logits of bins for a label in metres: label space is where both can be compared."""
        self.tried("a task whose head has other channels than its labels", plugin, tasks=other_channels())

    def test_what_an_invalid_pixel_holds_does_not_matter(self, plugin: Any) -> None:
        """A withheld label is invalid everywhere: who reads it as a label would learn from its blank."""
        hooks = self.prepare(plugin)
        # by another copy: a plugin that remembers the first step would see the second differently
        before = self.total(self.prepare(plugin), self.make_step(plugin, "one label"))
        step = self.make_step(plugin, "one label")  # with a generator from which nothing was drawn yet
        targets = {task.name: other_invalid_values(task, step.targets[task.name]) for task in step.tasks}
        after = self.total(hooks, with_losses(attrs.evolve(step, targets=targets)))
        assert torch.allclose(before, after, rtol=1e-6), f"{before} became {after} when invalid pixels changed"
        for name, gradient in gradients(hooks, step, after).items():
            assert gradient is None or gradient.isfinite().all(), f"gradient of {name}"


class HalfSums(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums and means over many bfloat16 values that end in a few bfloat16 numbers.

    :param limit: how many numbers count as a few
    """

    names = ("aten::sum", "aten::mean", "aten::norm", "aten::linalg_vector_norm", "aten::var", "aten::std")

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit = limit
        self.found = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # below autograd: losses that a plugin computes through a library are seen as well
        made = func(*args, **(kwargs or {}))
        name = func.name().partition(".")[0]
        given = next((a for a in args if isinstance(a, Tensor)), None)
        if name in self.names and given is not None and self.loses(given, made):
            self.found.append(f"{name.removeprefix('aten::')} over {given.numel()} values")
        return made

    def loses(self, given: Tensor, made: Any) -> bool:
        """Whether many numbers became a few in half precision."""
        if not isinstance(made, Tensor) or made.dtype != torch.bfloat16:
            return False
        return made.numel() <= self.limit and given.numel() >= 64 * made.numel()


def in_bfloat16(step: Step) -> Step:
    """The step as a network under bfloat16 autocast gives it."""

    def half(value: Tensor) -> Tensor:
        return value.detach().bfloat16().requires_grad_(value.requires_grad)

    features = step.features
    return with_losses(
        attrs.evolve(
            step,
            predictions={name: half(p) for name, p in step.predictions.items()},
            features=half(features) if isinstance(features, Tensor) else tuple(half(z) for z in features),
        )
    )
