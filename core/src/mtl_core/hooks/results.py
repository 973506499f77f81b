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


_PICTURES = "title → task → maps (B, O_t, H, W)"


class Answer:
    """One plugin's answer to one hook; every check gives it back, or says what it is and what was expected.

    :param plugin: name in the experiment
    :param hook: that it answered
    :param value: what it returned
    """

    def __init__(self, plugin: str, hook: str, value: Any) -> None:
        self.plugin = plugin
        self.hook = hook
        self.value = value

    def _unless(self, fits: bool, expected: str, found: str = "") -> Any:
        """The value where it fits.

        :raises ContractError: it does not; the message names the plugin and the hook
        """
        if fits:
            return self.value
        raise ContractError(
            f'plugin "{self.plugin}": {self.hook} returned {found or _shown(self.value)}, expected {expected}'
        )

    def dataset(self) -> MultiTaskDataset:
        good = isinstance(self.value, MultiTaskDataset) and isinstance(self.value.tasks, Tasks)
        found = f"an object of the class {type(self.value).__name__}"
        made: MultiTaskDataset = self._unless(good, "a data set with tasks, labelled, names, length and samples", found)
        return made

    def splits(self) -> tuple[str, ...]:
        fits = _listed(self.value, str) and len(set(self.value)) == len(self.value)
        return tuple(self._unless(fits, 'names of splits, such as ("train", "val", "test")', repr(self.value)))

    def extra_datasets(self) -> Sequence[ExtraData]:
        made: Sequence[ExtraData] = self._unless(_listed(self.value, ExtraData), "a list of ExtraData")
        return made

    def label_mask(self, size: int, tasks: int) -> Tensor:
        mask: Tensor = self._unless(
            _has_shape(self.value, (size, tasks)) and self.value.dtype == torch.bool,
            f"torch.bool ({size}, {tasks})",
        )
        return mask

    def relabelled(self, size: int, names: Sequence[str]) -> tuple[MultiTaskDataset, Tensor]:
        expected = f"{size} samples of {list(names)} and a label mask ({size}, {len(names)})"
        pair = isinstance(self.value, tuple | list) and len(self.value) == 2
        data, mask = self._unless(pair and isinstance(self.value[0], MultiTaskDataset), expected)
        fits = (len(data), data.tasks.names) == (size, tuple(names)) and _has_shape(mask, (size, len(names)))
        found = f"{len(data)} samples of tasks {list(data.tasks.names)} and a label mask {_shown(mask)}"
        made: tuple[MultiTaskDataset, Tensor] = self._unless(fits, expected, found)
        return made

    def sample(self, before: Sample) -> Sample:
        expected = f"a Sample as it was given: {_shapes_of(before)}"
        after = self._unless(isinstance(self.value, Sample), expected)
        made: Sample = self._unless(_shapes_of(after) == _shapes_of(before), expected, _shapes_of(after))
        return made

    def views(self) -> int:
        # not isinstance: True is an int
        fits = type(self.value) is int and self.value >= 1
        made: int = self._unless(fits, "a number of views, at least 1", f"{self.value!r:.40}")
        return made

    def windows(self, expected: tuple[int, int, int]) -> Tensor:
        made: Tensor = self._unless(_has_shape(self.value, expected), f"{expected}: (V - 1, B, 3)", _shape(self.value))
        return made

    def images(self, before: Tensor) -> Tensor:
        fits = _has_shape(self.value, before.shape) and self.value.is_floating_point()
        made: Tensor = self._unless(fits, f"images like those that it was given, {_shown(before)}")
        return made

    def backbone(self) -> nn.Module:
        made: nn.Module = self._unless(isinstance(self.value, nn.Module), "a torch.nn.Module")
        return made

    def heads(self, names: Sequence[str]) -> nn.ModuleDict:
        # more heads than tasks are right: an experiment may learn some of the tasks
        made: nn.ModuleDict = self._unless(isinstance(self.value, nn.ModuleDict), "a torch.nn.ModuleDict")
        if missing := [name for name in names if name not in made]:
            raise ContractError(f'plugin "{self.plugin}": {self.hook} made no head for {missing}')
        return made

    def parameter_groups(self) -> list[dict[str, Any]]:
        fits = _listed(self.value, Mapping) and all("params" in group for group in self.value)
        return [dict(group) for group in self._unless(fits, 'a list of groups {"params": [...], "lr": ...}')]

    def total(self, losses: Tensor) -> Tensor:
        """The combined loss, through which gradients go back to the tasks' losses."""
        expected = f"a scalar: a tensor of shape () and type {losses.dtype}"
        made: Tensor = self._unless(_has_shape(self.value, ()) and self.value.is_floating_point(), expected)
        # in evaluation, and where every loss is a constant, there is no gradient to lose
        learns = made.requires_grad or not (losses.requires_grad and torch.is_grad_enabled())
        found = f"{_shown(made)} without a gradient (a constant, or detached)"
        self._unless(learns, "a scalar that is computed from the losses", found)
        return made

    def terms(self) -> Mapping[str, Term]:
        """Losses by name."""
        expected = "terms by name, each a scalar tensor of shape () or (sum, count) of two"
        terms: Mapping[str, Term] = self._unless(isinstance(self.value, Mapping), expected)
        for name, term in terms.items():
            self._unless(_is_term(term), expected, f"{_shown(term)} for {name!r}")
        return terms

    def shaped(self, gradients: EncoderGradients, plugin: Any) -> Shaped | Tensor:
        """Weights (K,) or a gradient like z, and values for buffers of the plugin."""
        answer: Shaped | Tensor = self.value
        entering = answer.weights if isinstance(answer, Shaped) else answer
        z = _shapes_like_z(gradients.branches)
        fits = _has_shape(entering, (len(gradients.tasks),)) or _is_like(entering, z)
        expected = f"weights ({len(gradients.tasks)},) or a gradient like z, {z}, as floating-point numbers"
        self._unless(fits and _is_floating(entering), expected, _shown(entering))
        if isinstance(answer, Shaped):
            Answer(self.plugin, self.hook, answer.state).state(plugin)
        return answer

    def state(self, plugin: Any) -> Mapping[str, Tensor]:
        """Values for buffers of the plugin."""
        expected = "a state by the names of its buffers, each of its buffer's shape"
        state: Mapping[str, Tensor] = self._unless(isinstance(self.value, Mapping), expected)
        buffers = dict(plugin.named_buffers()) if state and isinstance(plugin, nn.Module) else {}
        for name, value in state.items():
            known = "no buffer of this name" if name not in buffers else f"its buffer is {_shown(buffers[name])}"
            fits = name in buffers and _has_shape(value, buffers[name].shape)
            self._unless(fits, expected, f"{_shown(value)} for {name!r} ({known})")
        return state

    def ends_run(self) -> bool:
        """True where the run is to end."""
        made: bool | None = self._unless(self.value is None or isinstance(self.value, bool), "True, False or None")
        return bool(made)

    def pictures(self) -> dict[str, Mapping[str, Tensor]]:
        titled = self._unless(isinstance(self.value, Mapping), _PICTURES)
        for title, maps in titled.items():
            fits = isinstance(maps, Mapping) and all(isinstance(drawn, Tensor) for drawn in maps.values())
            self._unless(fits, _PICTURES, f"{_shown(maps)} for {title!r}")
        return dict(titled)


def _shown(value: object) -> str:
    """A value's type, and the shapes of its tensors; never what is in them."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(map(_shown, value[:4]))})"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {list(value)[:4]}"
    return "None" if value is None else f"a value of the type {type(value).__name__}"


def _has_shape(value: object, shape: Sequence[int]) -> bool:
    return isinstance(value, Tensor) and tuple(value.shape) == tuple(shape)


def _is_floating(value: object) -> bool:
    """Whether every tensor in it holds floating-point numbers."""
    levels = value if isinstance(value, tuple) else (value,)
    return all(level.is_floating_point() for level in levels if isinstance(level, Tensor))


def _listed(value: object, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, kind) for item in value)


def _is_term(term: object) -> bool:
    parts = term if isinstance(term, tuple | list) and len(term) == 2 else [term]
    return all(_has_shape(part, ()) for part in parts)


def _shapes_of(sample: Sample) -> str:
    labels = [f"{name} {_shape(label)}" for name, label in sorted(sample.targets.items())]
    return f"image {_shape(sample.image)}, {', '.join(labels) or 'no labels'}"


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else _shown(value)


def _shapes_like_z(branches: Iterable[Branch]) -> list[tuple[int, ...] | None]:
    """The shape of every level of z; None for a level that no head uses."""
    shapes: list[tuple[int, ...] | None] = []
    for level in zip(*branches, strict=True):
        reached = [b for b in level if b is not None]
        shapes.append(tuple(reached[0].shape) if reached else None)
    return shapes


def _is_like(value: object, z: Sequence[tuple[int, ...] | None]) -> bool:
    levels = value if isinstance(value, tuple) else (value,)
    return len(levels) == len(z) and all(map(_is_level, levels, z))


def _is_level(value: object, like: tuple[int, ...] | None) -> bool:
    return isinstance(value, Tensor | None) if like is None else _has_shape(value, like)
