"""A typed front over pluggy's relay: the plugins of one experiment, each in its place.

One :class:`pluggy.PluginManager` per experiment. Every implementation is wrapped when it is registered, so that errors
name the plugin. Exclusive places have exactly one plugin; chains run in the experiment's order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from mtl_core.errors import ContractError, ExperimentError
from mtl_core.hooks import hookspecs
from mtl_core.hooks.attribution import guarded, logging_as
from mtl_core.hooks.exclusive import check_use, choose
from mtl_core.hooks.results import Answer
from mtl_core.hooks.spec_table import exclusive_hooks

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from mtl_core.data.sample import ExtraData, MultiTaskDataset, Sample
    from mtl_core.experiment import Experiment
    from mtl_core.step.encoder_gradients import EncoderGradients, Shaped
    from mtl_core.step.finished_run import FinishedRun
    from mtl_core.step.look_ahead import LookAhead
    from mtl_core.step.step import Step
    from mtl_core.tasks.tasks import Tasks


REQUIRED = ("build_dataset", "make_label_mask", "build_backbone", "build_heads")
"""Exclusive places without a default."""

_Size = tuple[int, int]


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
        # built again from their options alone: what `setup` assigned to the originals stays behind
        self.plugins: dict[str, Any] = {name: attrs.evolve(plugin) for name, plugin in plugins.items()}  # type: ignore[misc]
        self.places: dict[str, str] = {}  # who fills each exclusive place; empty while it is being chosen
        self.manager = pluggy.PluginManager("mtl")
        self.manager.add_hookspecs(hookspecs)
        for name, plugin in self.plugins.items():
            self.manager.register(guarded(name, plugin), name)
        self.manager.check_pending()
        self.places = _choose_places(self, use or {}, required, source)

    def has(self, hook: str) -> bool:
        """Whether any plugin answers this hook."""
        return any(True for _ in self.implementations(hook))

    def implementations(self, hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        """(plugin, function) in the experiment's order; an exclusive place has at most one."""
        found = {i.plugin_name: i for i in getattr(self.manager.hook, hook).get_hookimpls()}
        chosen = self.places.get(hook)
        # the experiment's order; pluggy itself calls the plugin that was registered last first
        for name in self.plugins if chosen is None else (chosen,):
            if name in found:
                yield name, functools.partial(_call, found[name])

    def answer(self, hook: str, **arguments: object) -> Answer:
        """The answer of the plugin in an exclusive place, of value None where nobody fills it."""
        return next(self.answers(hook, **arguments), Answer("?", hook, None))

    def answers(self, hook: str, **arguments: object) -> Iterator[Answer]:
        """What each plugin answers, in the experiment's order, one after the other as the caller takes them."""
        for name, function in self.implementations(hook):
            yield Answer(name, hook, function(**arguments))

    def _required_answer(self, hook: str, **arguments: object) -> Answer:
        """The answer of the plugin in a required place, which must not be None."""
        answer = self.answer(hook, **arguments)
        if answer.value is None:
            raise ContractError(f'plugin "{answer.plugin}": {hook} returned None; it must return a value')
        return answer

    def before_run(self, experiment: Experiment, folder: Path) -> None:
        for _, prepare in self.implementations("before_run"):
            prepare(experiment=experiment, folder=folder)

    def build_dataset(self, split: str) -> MultiTaskDataset:
        return self._required_answer("build_dataset", split=split).dataset()

    @functools.cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits that the data have."""
        # only the plugin whose data set is used: splits of another one are of other data
        name = self.places.get("build_dataset", "")
        asked = [function for plugin, function in self.implementations("name_splits") if plugin == name]
        answers = [Answer(name, "name_splits", function()) for function in asked]
        return next((answer.splits() for answer in answers if answer.value is not None), ("train", "test"))

    def build_extra_datasets(self) -> list[tuple[str, ExtraData]]:
        """(plugin, data) of every further source."""
        found: list[tuple[str, ExtraData]] = []
        for answer in self.answers("build_extra_datasets"):
            if answer.value is not None:
                found += [(answer.plugin, extra) for extra in answer.extra_datasets()]
        return found

    def make_label_mask(
        self, size: int, tasks: Tasks, generator: torch.Generator, names: Sequence[str] | None
    ) -> Tensor:
        answer = self._required_answer("make_label_mask", size=size, tasks=tasks, generator=generator, names=names)
        return answer.label_mask(size, len(tasks))

    def relabel(
        self, dataset: MultiTaskDataset, labelled: Tensor, folder: Path | None
    ) -> tuple[MultiTaskDataset, Tensor]:
        size = len(dataset)
        names = dataset.tasks.names
        for name, change in self.implementations("relabel"):
            answer = Answer(name, "relabel", change(dataset=dataset, labelled=labelled, folder=folder))
            if answer.value is not None:
                dataset, labelled = answer.relabelled(size, names)
        return dataset, labelled

    def transform_sample(self, sample: Sample, generator: torch.Generator) -> Sample:
        for name, transform in self.implementations("transform_sample"):
            answer = Answer(name, "transform_sample", transform(sample=sample, generator=generator))
            sample = sample if answer.value is None else answer.sample(sample)
        return sample

    def count_views(self) -> int:
        """V: as many views as the plugin that needs most."""
        return max(self._views.values(), default=1)

    @property
    def _views(self) -> dict[str, int]:
        """Plugin → how many views it needs."""
        answers = [answer for answer in self.answers("count_views") if answer.value is not None]
        return {answer.plugin: answer.views() for answer in answers}

    def choose_windows(self, views: int, samples: int, generator: torch.Generator) -> Tensor | None:
        """The windows of views 1 and on; every plugin that works with several views must know of them."""
        if views == 1:
            return None
        # all of them are asked, although one may answer: a second answer would be a conflict
        answers = list(self.answers("choose_windows", views=views, samples=samples, generator=generator))
        found = [answer for answer in answers if answer.value is not None]
        for answer in found:
            self._check_alone(answer.plugin)
        windows = [answer.windows((views - 1, samples, 3)) for answer in found]
        return windows[0] if windows else None

    def _check_alone(self, name: str) -> None:
        others = [other for other, count in self._views.items() if other != name and count > 1]
        if others:
            raise ContractError(
                f'plugin "{name}" shows other parts of an image in its views, and plugin "{others[0]}" asks for views'
                " too, whose pixels would no longer correspond; use one of the two"
            )

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for name, augment in self.implementations("augment"):
            answer = Answer(name, "augment", augment(images=images, generator=generator))
            images = images if answer.value is None else answer.images(images)
        return images

    def build_backbone(self, image_size: _Size, in_channels: int = 3) -> nn.Module:
        return self._required_answer("build_backbone", image_size=image_size, in_channels=in_channels).backbone()

    def build_heads(self, backbone: nn.Module, tasks: Tasks, image_size: _Size) -> nn.ModuleDict:
        answer = self._required_answer("build_heads", backbone=backbone, tasks=tasks, image_size=image_size)
        return answer.heads(tasks.names)

    def setup(
        self,
        tasks: Tasks,
        image_size: _Size,
        backbone: nn.Module,
        seed: Callable[[str], object],
        labelled: Tensor | None = None,
        heads: nn.ModuleDict | None = None,
    ) -> None:
        """Set every plugin up; ``seed(name)`` is called before each.

        :param heads: None only where a test sets up plugins that do not ask for them
        """
        known = {"tasks": tasks, "image_size": image_size, "backbone": backbone, "labelled": labelled, "heads": heads}
        for name, setup in self.implementations("setup"):
            seed(name)
            # a copy: a plugin may keep it
            setup(name=name, places=dict(self.places), **known)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        for answer in self.answers("parameter_groups", learning_rate=learning_rate):
            if answer.value is not None:
                groups += answer.parameter_groups()
        return groups

    def before_step(self, look_ahead: LookAhead) -> None:
        for _, look in self.implementations("before_step"):
            look(look_ahead=look_ahead)

    def after_step(self, look_ahead: LookAhead) -> None:
        for _, look in self.implementations("after_step"):
            look(look_ahead=look_ahead)

    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        with logging_as(self.places.get("combine_losses", ""), step):
            answer = self.answer("combine_losses", losses=losses, means=means, active=active, step=step)
        # no rule, or one that has nothing to say: equal weights
        return losses.sum() if answer.value is None else answer.total(losses)

    def compute_regularizer(self, step: Step) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        """Every plugin's terms, as ``plugin/term``; what a plugin logs gets its name too."""
        terms: dict[str, Tensor | tuple[Tensor, Tensor]] = {}
        for name, compute in self.implementations("compute_regularizer"):
            with logging_as(name, step):
                answer = Answer(name, "compute_regularizer", compute(step=step))
            if answer.value is not None:
                terms |= {f"{name}/{term}": value for term, value in answer.terms().items()}
        return terms

    def watch_encoder_gradient(self, gradients: EncoderGradients) -> dict[str, Mapping[str, Tensor]]:
        """Plugin → the state that it proposes; what it logs on the step gets its name."""
        proposed: dict[str, Mapping[str, Tensor]] = {}
        for name, watch in self.implementations("watch_encoder_gradient"):
            with logging_as(name, gradients.step):
                answer = Answer(name, "watch_encoder_gradient", watch(gradients=gradients))
            proposed[name] = {} if answer.value is None else answer.state(self.plugins[name])
        return proposed

    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped | Tensor | None:
        """The shaper's answer, None without one; what it logs on the step gets its name."""
        with logging_as(self.places.get("shape_encoder_gradient", ""), gradients.step):
            answer = self.answer("shape_encoder_gradient", gradients=gradients)
        return None if answer.value is None else answer.shaped(gradients, self.plugins[answer.plugin])

    @property
    def need_seam(self) -> bool:
        """Whether a plugin shapes or watches the gradient that enters the encoder; otherwise the seam is absent."""
        return self.has("shape_encoder_gradient") or self.has("watch_encoder_gradient")

    def after_epoch(self, epoch: int, metrics: Mapping[str, float], run_folder: Path | None = None) -> bool:
        """Whether a plugin that looks before the checkpoint wants the run to end; all of them are asked."""
        ends = []
        for name, look in self.implementations("after_epoch"):
            # the others are called when the record is written, by `after_record`
            if not self.wants_record(name):
                answer = Answer(name, "after_epoch", look(epoch=epoch, metrics=metrics, run_folder=run_folder))
                ends.append(answer.ends_run())
        return any(ends)

    def after_record(self, run_folder: Path, record: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Plugin → its ``after_epoch`` with the record, for those that name it."""
        known = {"epoch": record["epoch"], "metrics": record, "run_folder": run_folder, "record": record}
        for name, look in self.implementations("after_epoch"):
            if self.wants_record(name):
                yield name, functools.partial(look, **known)

    def wants_record(self, name: str) -> bool:
        """Whether a plugin's ``after_epoch`` names the record that was written."""
        found = {i.plugin_name: i.argnames for i in self.manager.hook.after_epoch.get_hookimpls()}
        return "record" in found[name]

    def after_run(self, run: FinishedRun) -> None:
        for _, look in self.implementations("after_run"):
            look(run=run)

    def after_predict(
        self, image: Tensor, labels: Mapping[str, Tensor], tasks: Tasks, folder: Path, name: str
    ) -> list[Path]:
        """The files that were written."""
        known = {"image": image, "labels": labels, "tasks": tasks, "folder": folder, "name": name}
        written = [look(**known) for _, look in self.implementations("after_predict")]
        return [path for path in written if path is not None]

    def draw_pictures(self, step: Step) -> dict[str, dict[str, Mapping[str, Tensor]]]:
        """Plugin → title → task → maps."""
        answers = [answer for answer in self.answers("draw_pictures", step=step) if answer.value is not None]
        drawn = {answer.plugin: answer.pictures() for answer in answers}
        return {name: titled for name, titled in drawn.items() if titled}


def _call(implementation: pluggy.HookImpl, **arguments: object) -> Any:
    """Call one implementation with the arguments that its signature names."""
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def _choose_places(hooks: Hooks, use: Mapping[str, str], required: Sequence[str], source: str) -> dict[str, str]:
    """One plugin for every exclusive place that has any."""
    candidates = {hook: [name for name, _ in hooks.implementations(hook)] for hook in exclusive_hooks()}
    # a place whose chosen plugin the experiment lacks is left out: check_use has a line on that plugin
    named = {hook: names for hook, names in candidates.items() if use.get(hook, "") in ("", *hooks.plugins)}
    places, problems = choose(named, {hook: name for hook, name in use.items() if hook in named})
    problems = check_use(use, hooks.plugins) + problems
    problems += [
        f"{hook}: no plugin fills this place; add one (`mtl plugins --hooks` lists who can)"
        for hook in required
        if not candidates[hook] and hook not in use
    ]
    if problems:
        raise ExperimentError(source, problems)
    return places
