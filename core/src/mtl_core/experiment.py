"""An experiment: a set of plugins and the settings of a run."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import attrs
from attrs import field
from attrs.validators import deep_iterable, ge, gt, le, lt, optional

from mtl_core import discovery
from mtl_core.errors import ExperimentError
from mtl_core.options import torch_optimizers
from mtl_core.options.fields import help, options
from mtl_core.options.read import read_options

_FINITE = lt(float("inf"))

_POSITIVE = [gt(0.0), _FINITE]

_NOT_NEGATIVE = [ge(0.0), _FINITE]

_C = TypeVar("_C", bound=type)

_NAME = r"\w[\w .+=-]*"

INSTANCE = r"[^#\s]+(#[\w-]+)?"
"""A plugin's name, and for a second instance of it ``#`` and any text that distinguishes the two."""


def _by_name(plugins: Iterable[object] | Mapping[str, object]) -> dict[str, object]:
    """Plugins by their names in an experiment file: ``name``, a second instance ``name#2``."""
    if isinstance(plugins, Mapping):
        return dict(plugins)
    found = discovery.installed_plugins()
    made = dict[str, object]()
    for plugin in plugins:
        base = discovery.name_of(type(plugin), found)
        count = sum(name.partition("#")[0] == base for name in made)
        made[base if count == 0 else f"{base}#{count + 1}"] = plugin
    return made


def is_name(experiment: object, attribute: object, name: str) -> None:
    if not re.fullmatch(_NAME, name):
        raise ValueError(f'"{name}" cannot name a folder; use letters, digits, spaces and . _ - + =')


def _check_plugins(plugins: Mapping[str, object]) -> list[str]:
    """What is wrong with plugins made in Python, whose types were not checked."""
    problems = [
        f'plugins.{n}: expected a name; a second instance is "name#2"' for n in plugins if not re.fullmatch(INSTANCE, n)
    ]
    for name, plugin in plugins.items():
        if "mtl_hook_version" not in vars(type(plugin)):
            problems.append(f"plugins.{name}: expected an object of a class declared with @plugin, found {plugin!r}")
        else:
            problems += read_options(type(plugin), chosen(plugin), f"plugins.{name}")[1]
    return problems


def _names_once(experiment: object, attribute: object, names: tuple[str, ...]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"expected each task once, found {', '.join(twice)} more than once")


def _known_optimizer(experiment: object, attribute: object, name: str) -> None:
    if name not in torch_optimizers.SHORT:
        torch_optimizers.class_of(name)


def _options_of_optimizer(experiment: Any, attribute: object, given: dict[str, Any]) -> None:
    try:
        problems = torch_optimizers.problems(experiment.optimizer, given) if given else []
    except ValueError:
        return  # the optimizer itself is unknown, which is reported already
    if problems:
        raise ValueError("; ".join(problems))


def _positive_factors(experiment: object, attribute: object, factors: dict[str, float]) -> None:
    for part, factor in factors.items():
        if not 0 < factor < float("inf"):
            raise ValueError(f"expected factors above 0, found {factor:g} for {part}; freeze keeps a part as it is")


def _mixes_unlabelled(experiment: Any, attribute: object, count: int | None) -> None:
    if count is not None and experiment.drop_unlabelled:
        raise ValueError("drop_unlabelled leaves out the samples that this setting adds; use one of the two")


def _mistakes(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with what :class:`Experiment` is called with."""
    plugins = given.get("plugins", ())
    # plugins are objects here, not the tables that an option of the type dict would be read from
    problems = read_options(Experiment, {**given, **({"plugins": {}} if "plugins" in given else {})})[1]
    if not isinstance(plugins, Iterable) or isinstance(plugins, str):
        return [*problems, f"plugins: expected a list of plugins, found {plugins!r}"]
    plugins = _by_name(plugins)
    return problems + _check_plugins(plugins)


def _reporting_every_mistake(cls: _C) -> _C:
    """List every mistake of a call with unknown or missing settings; attrs refuses them one at a time."""
    made: Any = cls
    plain = made.__init__

    @functools.wraps(plain)
    def initialise(self: Any, *positional: Any, **given: Any) -> None:
        try:
            plain(self, *positional, **given)
        except TypeError as error:
            if positional or not (problems := _mistakes(given)):
                raise
            raise ExperimentError("Experiment(...)", problems) from error

    made.__init__ = initialise
    return cls


def chosen(plugin: object) -> dict[str, Any]:
    """The options of a plugin as they are set."""
    return {key: getattr(plugin, option.name) for key, option in options(type(plugin)).items()}


class _WithSource:
    """Knows which file it was read from; outside attrs' fields, so that no setting is called ``source``."""

    source: str = ""
    """The file, as messages call it; empty for one that was made in Python."""


@_reporting_every_mistake
@attrs.define(kw_only=True, eq=False)
class Experiment(_WithSource):
    """A set of plugins and the settings of a run, in Python or as a file (:mod:`mtl_core.settings`).

    ``plugins`` takes instances, or a mapping from name to instance, and *is* a dict from name to instance, in order.
    A plugin object is configuration: a run works on a fresh copy.

    :raises ExperimentError: with every mistake in it
    """

    name: str = field(validator=is_name, metadata=help("name in run folders, tables and reports"))
    plugins: dict[str, object] = field(
        converter=_by_name, metadata=help("plugins, in the order in which chains call them")
    )
    use: dict[str, str] = field(factory=dict, metadata=help("exclusive hook → the plugin that fills it"))
    seed: int = field(default=0, validator=[ge(0), lt(2**63)], metadata=help("seed of everything random"))
    epochs: int = field(default=20, validator=[ge(1), le(10**6)], metadata=help("passes over the training data"))
    batch_size: int = field(default=8, validator=[ge(1), le(10**6)], metadata=help("samples per step and device"))
    optimizer: str = field(
        default="adam",
        validator=_known_optimizer,
        metadata=help('"adam", "adamw", "sgd", or any of torch\'s as "torch.optim.NAME"'),
    )
    optimizer_options: dict[str, Any] = field(
        factory=dict, validator=_options_of_optimizer, metadata=help("further options of the optimizer, such as betas")
    )
    learning_rate: float = field(
        default=1e-4, validator=_POSITIVE, metadata=help("learning rate of the main parameter group")
    )
    weight_decay: float = field(
        default=0.0, validator=_NOT_NEGATIVE, metadata=help("weight decay of the main parameter group")
    )
    momentum: float = field(default=0.0, validator=[ge(0.0), lt(1.0)], metadata=help("momentum of sgd"))
    schedule: Literal["constant", "step", "cosine", "poly"] = field(
        default="constant", metadata=help("how the learning rate falls over the run")
    )
    drops: tuple[float, ...] = field(
        default=(0.5, 0.75),
        validator=deep_iterable([gt(0.0), lt(1.0)]),
        metadata=help("schedule step: shares of the epochs after which the rate is multiplied by drop_factor"),
    )
    drop_factor: float = field(
        default=0.5, validator=[gt(0.0), le(1.0)], metadata=help("schedule step: factor of the rate at each drop")
    )
    schedule_by: Literal["epoch", "step"] = field(
        default="epoch", metadata=help("when the schedule changes the rate: after every epoch, or every optimizer step")
    )
    warmup: int = field(
        default=0,
        validator=[ge(0), le(10**9)],
        metadata=help("first optimizer steps, in which the rate rises to its full value"),
    )
    rates: dict[str, float] = field(
        factory=dict,
        validator=_positive_factors,
        metadata=help("part of the network (backbone, heads.TASK, plugins.NAME …) → factor of its learning rate"),
    )
    ema: float | None = field(
        default=None,
        validator=optional([gt(0.0), lt(1.0)]),
        metadata=help("decay of an average of the weights, which is what is evaluated; none: the weights themselves"),
    )
    patience: int | None = field(
        default=None,
        validator=optional(ge(1)),
        metadata=help("epochs without a better one on validation data, after which the run ends; none: never"),
    )
    start_from: str | None = field(
        default=None, metadata=help("run folder or file of weights to begin with; none: random or the plugins' own")
    )
    normalize: Literal["sample", "task", "none"] = field(
        default="sample",
        metadata=help("from (B, K) to one loss per task: by each sample's tasks, by each task's samples, or by B"),
    )
    validation: float = field(
        default=0.1,
        validator=[ge(0.0), lt(1.0)],
        metadata=help("share of the training data kept for validation where the data have no split val; 0: none"),
    )
    best_on: str | None = field(
        default=None, metadata=help("metric that best.ckpt is chosen by; none: mean change of all headline metrics")
    )
    precision: Literal["32", "bf16", "fp16"] = field(default="32", metadata=help("number format of the forward pass"))
    matmul_precision: Literal["highest", "high", "medium"] = field(
        default="highest",
        metadata=help("of float32 matrix products, as torch.set_float32_matmul_precision; high: TF32 on NVIDIA GPUs"),
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = field(
        default="auto", metadata=help("where to train; auto takes CUDA, else MPS, else the CPU")
    )
    devices: int = field(default=1, validator=[ge(1), le(1024)], metadata=help("devices per machine"))
    nodes: int = field(default=1, validator=[ge(1), le(10**4)], metadata=help("machines"))
    strategy: str = field(default="auto", metadata=help("how devices work together, as lightning-fabric names it"))
    accumulate: int = field(default=1, validator=[ge(1), le(10**6)], metadata=help("batches per optimizer step"))
    clip: float | None = field(
        default=None,
        validator=optional(_POSITIVE),
        metadata=help("largest norm of the gradient; none: any"),
    )
    workers: int = field(
        default=0, validator=[ge(0), le(1024)], metadata=help("processes that load data; 0: the training process")
    )
    channels_last: bool = field(default=False, metadata=help("memory format NHWC"))
    compile: bool = field(default=False, metadata=help("torch.compile the training step"))
    checkpoint_steps: int | None = field(
        default=None,
        validator=optional(ge(1)),
        metadata=help("steps between checkpoints; none: after every epoch only"),
    )
    batch_norm: Literal["running", "reestimated", "frozen"] = field(
        default="running",
        metadata=help("statistics that batch norm evaluates with: averages over training, or those of many batches"),
    )
    batch_norm_batches: int = field(
        default=100, validator=ge(1), metadata=help("batch_norm reestimated: training batches, at most an epoch's")
    )
    cudnn_benchmark: bool = field(
        default=False,
        metadata=help("let cuDNN time its algorithms; a resume is not bit-identical then"),
    )
    deterministic: bool = field(
        default=False, metadata=help("take deterministic algorithms where torch has them, and warn where it has none")
    )
    freeze: tuple[str, ...] = field(
        default=(),
        validator=_names_once,
        metadata=help("what is not trained: tasks, whose heads are meant, or parts such as backbone"),
    )
    level: Literal["features", "parameters"] = field(
        default="features",
        metadata=help("what a gradient shaper compares: gradients at the features, or of the encoder's parameters"),
    )
    tasks: tuple[str, ...] = field(
        default=(), validator=_names_once, metadata=help("tasks to learn; empty: all of the data set's")
    )
    task_options: dict[str, dict[str, Any]] = field(
        factory=dict, metadata=help("task → options of it in place of the data set's: loss, loss_scale, metrics …")
    )
    drop_unlabelled: bool = field(
        default=False, metadata=help("leave out training samples without a label of any task that is learned")
    )
    unlabelled_per_batch: int | None = field(
        default=None,
        validator=[optional(ge(1)), _mixes_unlabelled],
        metadata=help("training samples without any label in every batch, beside batch_size others; none: mixed"),
    )
    counts_for: tuple[str, ...] = field(
        default=(),
        metadata=help("tasks that this run gives to its row in a table, other runs of its name the rest; empty: all"),
    )

    def __attrs_pre_init__(self, **given: Any) -> None:
        # before attrs' own validators, which stop at the first mistake
        if problems := _mistakes({key: value for key, value in given.items() if value is not attrs.NOTHING}):
            raise ExperimentError("Experiment(...)", problems)

    @property
    def named(self) -> dict[str, object]:
        """The plugins by name, as in an experiment file."""
        return self.plugins
