"""What a plugin's answer must be: its type and shapes, looked at without touching values, so that nothing waits.

Shape letters: V views, B samples, N training samples, K tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mtl_core.data.sample import ExtraData, MultiTaskDataset, Sample
from mtl_core.errors import ContractError
from mtl_core.step.encoder_gradients import Branch, EncoderGradients, Shaped
from mtl_core.tasks.tasks import Tasks

if TYPE_CHECKING:
    from mtl_core.hooks.hookspecs import Term


PICTURES = "title → task → maps (B, O_t, H, W)"


class Answer:
    """One plugin's answer to one hook; every check gives it back, or says what it is and what was expected.

    :param plugin: name in the experiment
    :param hook: that it answered
    :param value: what it returned
    """

    def __init__(self, plugin: str, hook: str, value: Any) -> None:
        self.plugin, self.hook, self.value = plugin, hook, value

    def unless(self, fits: bool, expected: str, found: str = "") -> Any:
        """The value where it fits.

        :raises ContractError: it does not; the message names the plugin and the hook
        """
        if fits:
            return self.value
        raise ContractError(
            f'plugin "{self.plugin}": {self.hook} returned {found or shown(self.value)}, expected {expected}'
        )

    def dataset(self) -> MultiTaskDataset:
        good = isinstance(self.value, MultiTaskDataset) and isinstance(self.value.tasks, Tasks)
        found = f"an object of the class {type(self.value).__name__}"
        made: MultiTaskDataset = self.unless(good, "a data set with tasks, labelled, names, length and samples", found)
        return made

    def extra_datasets(self) -> Sequence[ExtraData]:
        made: Sequence[ExtraData] = self.unless(listed(self.value, ExtraData), "a list of ExtraData")
        return made

    def label_mask(self, size: int, tasks: int) -> Tensor:
        mask: Tensor = self.unless(
            has_shape(self.value, (size, tasks)) and str(self.value.dtype) == "torch.bool",
            f"torch.bool ({size}, {tasks})",
        )
        return mask

    def relabelled(self, size: int, names: Sequence[str]) -> tuple[MultiTaskDataset, Tensor]:
        expected = f"{size} samples of {list(names)} and a label mask ({size}, {len(names)})"
        pair = isinstance(self.value, tuple | list) and len(self.value) == 2
        data, mask = self.unless(pair and isinstance(self.value[0], MultiTaskDataset), expected)
        fits = (len(data), data.tasks.names) == (size, tuple(names)) and has_shape(mask, (size, len(names)))
        found = f"{len(data)} samples of tasks {list(data.tasks.names)} and a label mask {shown(mask)}"
        made: tuple[MultiTaskDataset, Tensor] = self.unless(fits, expected, found)
        return made

    def sample(self, before: Sample) -> Sample:
        expected = f"a Sample as it was given: {shapes_of(before)}"
        after = self.unless(isinstance(self.value, Sample), expected)
        made: Sample = self.unless(shapes_of(after) == shapes_of(before), expected, shapes_of(after))
        return made

    def windows(self, expected: tuple[int, int, int]) -> Tensor:
        made: Tensor = self.unless(has_shape(self.value, expected), f"{expected}: (V - 1, B, 3)", shape(self.value))
        return made

    def images(self, before: Tensor) -> Tensor:
        fits = has_shape(self.value, before.shape) and self.value.is_floating_point()
        made: Tensor = self.unless(fits, f"images like those that it was given, {shown(before)}")
        return made

    def backbone(self) -> nn.Module:
        made: nn.Module = self.unless(isinstance(self.value, nn.Module), "a torch.nn.Module")
        return made

    def heads(self, names: Sequence[str]) -> nn.ModuleDict:
        made: nn.ModuleDict = self.unless(isinstance(self.value, nn.ModuleDict), "a torch.nn.ModuleDict")
        if missing := [name for name in names if name not in made]:
            raise ContractError(f'plugin "{self.plugin}": {self.hook} made no head for {missing}')
        return made

    def parameter_groups(self) -> list[dict[str, Any]]:
        fits = listed(self.value, Mapping) and all("params" in group for group in self.value)
        return [dict(group) for group in self.unless(fits, 'a list of groups {"params": [...], "lr": ...}')]

    def total(self, losses: Tensor) -> Tensor:
        """The combined loss, through which gradients go back to the tasks' losses."""
        expected = f"a scalar: a tensor of shape () and type {losses.dtype}"
        made: Tensor = self.unless(has_shape(self.value, ()) and self.value.is_floating_point(), expected)
        learns = made.requires_grad or not (losses.requires_grad and torch.is_grad_enabled())
        found = f"{shown(made)} without a gradient (a constant, or detached)"
        self.unless(learns, "a scalar that is computed from the losses", found)
        return made

    def terms(self) -> Mapping[str, Term]:
        """Losses by name."""
        expected = "terms by name, each a scalar tensor of shape () or (sum, count) of two"
        terms: Mapping[str, Term] = self.unless(isinstance(self.value, Mapping), expected)
        for name, term in terms.items():
            self.unless(is_term(term), expected, f"{shown(term)} for {name!r}")
        return terms

    def shaped(self, gradients: EncoderGradients, plugin: Any) -> Shaped | Tensor:
        """Weights (K,) or a gradient like z, and values for buffers of the plugin."""
        answer: Shaped | Tensor = self.value
        entering, z = answer.weights if isinstance(answer, Shaped) else answer, shapes_like_z(gradients.branches)
        fits = has_shape(entering, (len(gradients.tasks),)) or is_like(entering, z)
        expected = f"weights ({len(gradients.tasks)},) or a gradient like z, {z}, as floating-point numbers"
        self.unless(fits and is_floating(entering), expected, shown(entering))
        if isinstance(answer, Shaped):
            Answer(self.plugin, self.hook, answer.state).state(plugin)
        return answer

    def state(self, plugin: Any) -> Mapping[str, Tensor]:
        """Values for buffers of the plugin."""
        expected = "a state by the names of its buffers, each of its buffer's shape"
        state: Mapping[str, Tensor] = self.unless(isinstance(self.value, Mapping), expected)
        buffers = dict(plugin.named_buffers()) if state and isinstance(plugin, nn.Module) else {}
        for name, value in state.items():
            known = "no buffer of this name" if name not in buffers else f"its buffer is {shown(buffers[name])}"
            fits = name in buffers and has_shape(value, buffers[name].shape)
            self.unless(fits, expected, f"{shown(value)} for {name!r} ({known})")
        return state

    def ends_run(self) -> bool:
        """True where the run is to end."""
        made: bool | None = self.unless(self.value is None or isinstance(self.value, bool), "True, False or None")
        return bool(made)

    def pictures(self) -> dict[str, Mapping[str, Tensor]]:
        titled = self.unless(isinstance(self.value, Mapping), PICTURES)
        for title, maps in titled.items():
            fits = isinstance(maps, Mapping) and all(isinstance(drawn, Tensor) for drawn in maps.values())
            self.unless(fits, PICTURES, f"{shown(maps)} for {title!r}")
        return dict(titled)


def shown(value: object) -> str:
    """A value's type, and the shapes of its tensors; never what is in them."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(map(shown, value[:4]))})"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {list(value)[:4]}"
    return "None" if value is None else f"a value of the type {type(value).__name__}"


def has_shape(value: object, shape: Sequence[int]) -> bool:
    return isinstance(value, Tensor) and tuple(value.shape) == tuple(shape)


def is_floating(value: object) -> bool:
    """Whether every tensor in it holds floating-point numbers."""
    levels = value if isinstance(value, tuple) else (value,)
    return all(level.is_floating_point() for level in levels if isinstance(level, Tensor))


def listed(value: object, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, kind) for item in value)


def is_term(term: object) -> bool:
    parts = term if isinstance(term, tuple | list) and len(term) == 2 else [term]
    return all(has_shape(part, ()) for part in parts)


def shapes_of(sample: Sample) -> str:
    labels = [f"{name} {shape(label)}" for name, label in sorted(sample.targets.items())]
    return f"image {shape(sample.image)}, {', '.join(labels) or 'no labels'}"


def shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else shown(value)


def shapes_like_z(branches: Iterable[Branch]) -> list[tuple[int, ...] | None]:
    """The shape of every level of z; None for a level that no head uses."""
    levels = zip(*branches, strict=True)
    return [next((tuple(b.shape) for b in level if b is not None), None) for level in levels]


def is_like(value: object, z: Sequence[tuple[int, ...] | None]) -> bool:
    levels = value if isinstance(value, tuple) else (value,)
    return len(levels) == len(z) and all(map(is_level, levels, z))


def is_level(value: object, like: tuple[int, ...] | None) -> bool:
    return isinstance(value, Tensor | None) if like is None else has_shape(value, like)
