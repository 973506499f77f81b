"""A typed front over pluggy's relay: the plugins of one experiment, each in its place.

One :class:`pluggy.PluginManager` per experiment. Every implementation is wrapped when it is registered, so that errors
name the plugin. Exclusive places have exactly one plugin; chains run in the experiment's order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from mtl_core import hookspecs
from mtl_core.errors import ContractError, ExperimentError, nearest
from mtl_core.plugin import hook_arguments

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from mtl_core.data import ExtraData, MultiTaskDataset, Sample
    from mtl_core.experiment import Experiment
    from mtl_core.look_ahead import LookAhead
    from mtl_core.nn import Networks
    from mtl_core.seam import EncoderGradients, Shaped
    from mtl_core.step import Step
    from mtl_core.tasks import Tasks

REQUIRED = ("build_dataset", "make_label_mask", "build_backbone", "build_heads")
"""Exclusive places without a default."""

Size = tuple[int, int]


class Hooks:
    """The plugins of one run.

    :param plugins: name in the experiment → plugin; fresh copies are made, so that nothing learned leaks between runs
    :param use: exclusive hook → plugin, where two could fill it
    :param required: exclusive places that must be filled
    :raises ExperimentError: a place is empty or has two plugins; it names them and shows the ``[use]`` line
    """

    def __init__(
        self,
        plugins: Mapping[str, object],
        use: Mapping[str, str] | None = None,
        required: Sequence[str] = REQUIRED,
        source: str = "experiment",
    ) -> None:
        self.plugins: dict[str, Any] = {name: attrs.evolve(plugin) for name, plugin in plugins.items()}  # type: ignore[misc]
        self.manager = pluggy.PluginManager("mtl")
        self.manager.add_hookspecs(hookspecs)
        for name, plugin in self.plugins.items():
            self.manager.register(guarded(name, plugin), name)
        self.manager.check_pending()
        self.places = choose_places(self, use or {}, required, source)

    def has(self, hook: str) -> bool:
        """Whether any plugin answers this hook."""
        return any(True for _ in self.implementations(hook))

    def implementations(self, hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        """(plugin, function) in the experiment's order; an exclusive place has at most one."""
        found = {i.plugin_name: i for i in getattr(self.manager.hook, hook).get_hookimpls()}
        chosen = getattr(self, "places", {}).get(hook)
        for name in self.plugins if chosen is None else (chosen,):
            if name in found:
                yield name, functools.partial(call, found[name])

    def ask(self, hook: str, **arguments: object) -> Any:
        """The answer of the plugin in an exclusive place; None where nobody fills it."""
        for _, function in self.implementations(hook):
            return function(**arguments)
        return None

    def need(self, hook: str, **arguments: object) -> Any:
        """The answer of the plugin in a required place, which must not be None."""
        answer = self.ask(hook, **arguments)
        if answer is None:
            raise ContractError(f'plugin "{self.places.get(hook, "?")}": {hook} returned None; it must return a value')
        return answer

    def before_run(self, experiment: Experiment, folder: Path) -> None:
        for _, prepare in self.implementations("before_run"):
            prepare(experiment=experiment, folder=folder)

    def build_dataset(self, split: str) -> MultiTaskDataset:
        dataset: MultiTaskDataset = self.need("build_dataset", split=split)
        return dataset

    def build_extra_datasets(self) -> list[tuple[str, ExtraData]]:
        """(plugin, data) of every further source."""
        answers = {name: build() for name, build in self.implementations("build_extra_datasets")}
        return [(name, extra) for name, found in answers.items() for extra in found or ()]

    def make_label_mask(
        self, size: int, tasks: Tasks, generator: torch.Generator, names: Sequence[str] | None
    ) -> Tensor:
        mask: Tensor = self.need("make_label_mask", size=size, tasks=tasks, generator=generator, names=names)
        if tuple(mask.shape) != (size, len(tasks)) or str(mask.dtype) != "torch.bool":
            found = f"{mask.dtype} {tuple(mask.shape)}"
            raise ContractError(
                f'plugin "{self.places["make_label_mask"]}": make_label_mask returned {found},'
                f" expected torch.bool ({size}, {len(tasks)})"
            )
        return mask

    def relabel(
        self, dataset: MultiTaskDataset, labelled: Tensor, folder: Path | None
    ) -> tuple[MultiTaskDataset, Tensor]:
        for name, change in self.implementations("relabel"):
            before = len(dataset), dataset.tasks.names
            dataset, labelled = change(dataset=dataset, labelled=labelled, folder=folder) or (dataset, labelled)
            if (len(dataset), dataset.tasks.names) != before or tuple(labelled.shape) != (before[0], len(before[1])):
                raise ContractError(
                    f'plugin "{name}": relabel returned {len(dataset)} samples of tasks {list(dataset.tasks.names)} and'
                    f" a label mask {tuple(labelled.shape)}; expected {before[0]} samples of {list(before[1])}"
                )
        return dataset, labelled

    def transform_sample(self, sample: Sample, generator: torch.Generator) -> Sample:
        for _, transform in self.implementations("transform_sample"):
            sample = transform(sample=sample, generator=generator) or sample
        return sample

    def choose_windows(self, views: int, samples: int, generator: torch.Generator) -> Tensor | None:
        """The windows of views 1 and on; every plugin that works with several views must know of them."""
        if views == 1:
            return None
        known = {"views": views, "samples": samples, "generator": generator}
        answers = {name: choose(**known) for name, choose in self.implementations("choose_windows")}
        found = {name: windows for name, windows in answers.items() if windows is not None}
        for name, windows in found.items():
            self.check_windows(name, windows, (views - 1, samples, 3))
        return next(iter(found.values()), None)

    def check_windows(self, name: str, windows: Tensor, expected: tuple[int, int, int]) -> None:
        others = [n for n, p in self.plugins.items() if n != name and getattr(p, "views", 1) > 1]
        if others:
            raise ContractError(
                f'plugin "{name}" shows other parts of an image in its views, and plugin "{others[0]}" asks for views'
                " too, whose pixels would no longer correspond; use one of the two"
            )
        if tuple(windows.shape) != expected:
            raise ContractError(
                f'plugin "{name}": choose_windows returned {tuple(windows.shape)}, expected {expected}: (V - 1, B, 3)'
            )

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for _, augment in self.implementations("augment"):
            changed = augment(images=images, generator=generator)
            images = images if changed is None else changed
        return images

    def build_backbone(self, image_size: Size, in_channels: int = 3) -> nn.Module:
        backbone: nn.Module = self.need("build_backbone", image_size=image_size, in_channels=in_channels)
        return backbone

    def build_heads(self, backbone: nn.Module, tasks: Tasks, image_size: Size) -> nn.ModuleDict:
        heads: nn.ModuleDict = self.need("build_heads", backbone=backbone, tasks=tasks, image_size=image_size)
        missing = [name for name in tasks.names if name not in heads]
        if missing:
            raise ContractError(f'plugin "{self.places["build_heads"]}": build_heads made no head for {missing}')
        return heads

    def setup(
        self,
        tasks: Tasks,
        image_size: Size,
        networks: Networks,
        seed: Callable[[str], object],
        labelled: Tensor | None = None,
    ) -> None:
        """Set every plugin up; ``seed(name)`` is called before each."""
        known = {"tasks": tasks, "image_size": image_size, "networks": networks, "labelled": labelled}
        for name, setup in self.implementations("setup"):
            seed(name)
            setup(name=name, places=dict(self.places), **known)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        answers = (groups(learning_rate=learning_rate) or () for _, groups in self.implementations("parameter_groups"))
        return [dict(group) for groups in answers for group in groups]

    def before_step(self, look_ahead: LookAhead) -> None:
        for _, look in self.implementations("before_step"):
            look(look_ahead=look_ahead)

    def after_step(self, look_ahead: LookAhead) -> None:
        for _, look in self.implementations("after_step"):
            look(look_ahead=look_ahead)

    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        with logging_as(self.places.get("combine_losses", ""), step):
            total: Tensor | None = self.ask("combine_losses", losses=losses, means=means, active=active, step=step)
        return losses.sum() if total is None else total

    def compute_regularizer(self, step: Step) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        """Every plugin's terms, as ``plugin/term``; what a plugin logs gets its name too."""
        terms: dict[str, Tensor | tuple[Tensor, Tensor]] = {}
        for name, compute in self.implementations("compute_regularizer"):
            with logging_as(name, step):
                terms |= {f"{name}/{term}": value for term, value in (compute(step=step) or {}).items()}
        return terms

    def watch_encoder_gradient(self, gradients: EncoderGradients) -> dict[str, Mapping[str, Tensor]]:
        """Plugin → the state that it proposes; what it logs on the step gets its name."""
        proposed: dict[str, Mapping[str, Tensor]] = {}
        for name, watch in self.implementations("watch_encoder_gradient"):
            with logging_as(name, gradients.step):
                proposed[name] = watch(gradients=gradients) or {}
        return proposed

    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped | Tensor | None:
        """The shaper's answer, None without one; what it logs on the step gets its name."""
        with logging_as(self.places.get("shape_encoder_gradient", ""), gradients.step):
            answer: Shaped | Tensor | None = self.ask("shape_encoder_gradient", gradients=gradients)
        return answer

    @property
    def meet_at_the_seam(self) -> bool:
        """Whether a plugin shapes or watches the gradient that enters the encoder; otherwise the seam is absent."""
        return self.has("shape_encoder_gradient") or self.has("watch_encoder_gradient")

    def after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        for _, look in self.implementations("after_epoch"):
            look(epoch=epoch, metrics=metrics)

    def draw_pictures(self, step: Step) -> dict[str, dict[str, Mapping[str, Tensor]]]:
        """Plugin → title → task → maps."""
        answers = {name: draw(step=step) for name, draw in self.implementations("draw_pictures")}
        return {name: dict(answer) for name, answer in answers.items() if answer}


def call(implementation: pluggy.HookImpl, **arguments: object) -> Any:
    """Call one implementation with the arguments that its signature names."""
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def guarded(name: str, plugin: object) -> SimpleNamespace:
    """The plugin's implementations, each adding the plugin's name to what it raises.

    An instance that answers only some of its class's hooks, by its options, names them in a property ``fills``.
    """
    fills = getattr(plugin, "fills", hook_arguments())
    methods = {hook: getattr(plugin, hook, None) for hook in hook_arguments() if hook in fills}
    return SimpleNamespace(**{hook: guard(name, m) for hook, m in methods.items() if hasattr(m, "mtl_impl")})


def guard(name: str, method: Any) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded_method(*args: object) -> Any:
        try:
            return method(*args)
        except Exception as error:
            error.add_note(f'in plugin "{name}", hook {method.__name__}')
            raise

    return guarded_method


class logging_as:  # noqa: N801 - a context manager, used like a function
    """Put a plugin's name before what it logs on a step."""

    def __init__(self, name: str, step: Step | None) -> None:
        self.name, self.step = name, step
        self.before = {} if step is None else dict(step.logged)

    def __enter__(self) -> None:
        if self.step is not None:
            self.step.logged = {}

    def __exit__(self, *error: object) -> None:
        if self.step is None:
            return
        own = {f"{self.name}/{key}": value for key, value in self.step.logged.items()}
        self.step.logged = self.before | own


def choose_places(hooks: Hooks, use: Mapping[str, str], required: Sequence[str], source: str) -> dict[str, str]:
    """One plugin for every exclusive place that has any."""
    problems: list[str] = []
    places: dict[str, str] = {}
    exclusive = [name for name, spec in vars(hookspecs).items() if getattr(spec, "mtl_spec", {}).get("firstresult")]
    problems += [
        f"use.{hook}: no exclusive hook of this name{nearest(hook, exclusive)}" for hook in use if hook not in exclusive
    ]
    for hook in exclusive:
        able = [name for name, _ in hooks.implementations(hook)]
        if hook in use and use[hook] not in able:
            problems.append(f'use.{hook}: plugin "{use[hook]}" does not fill it; expected one of {able}')
        elif hook in use:
            places[hook] = use[hook]
        elif len(able) > 1:
            lines = " or ".join(f'{hook} = "{name}"' for name in able)
            problems.append(f"{hook}: {' and '.join(able)} both fill this place; choose one: [use] {lines}")
        elif able:
            places[hook] = able[0]
        elif hook in required:
            problems.append(f"{hook}: no plugin fills this place; add one (`mtl plugins --hooks` lists who can)")
    if problems:
        raise ExperimentError(source, problems)
    return places
