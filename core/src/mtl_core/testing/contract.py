"""What every contract class has: the plugin behind a real façade, skips with their reason, checks of its options."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import random
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl_core.errors import ContractError, MtlError, nearest
from mtl_core.hooks.markers import HOOK_VERSION
from mtl_core.hooks.relay import Hooks
from mtl_core.options.convert import structure
from mtl_core.options.fields import kind_of, options
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.factories import DENSE, make_tasks
from mtl_core.testing.toys import StubBackbone, stub_heads

HERE = "mtl_core.testing."
SHORTEST_REASON = 10
ODD = (33, 47)
"""An image size (H, W) that no power of two divides."""
OTHER_TASKS = (
    ("segmentation", "depth"),
    ("normals", "depth", "segmentation"),
    ("segmentation", "depth", "normals", "edges", "shading"),
)
"""Further tasks to try, K = 2, 3 and 5, by their names in :data:`mtl_core.testing.EXAMPLES`."""
REPEATS = 12
"""How often a check asks again, so that what happens only now and then is seen."""
MANY = 24
"""Tensors of a plugin from which on it is asked less often: it has networks, whose steps take long."""

Result = TypeVar("Result")


def contracts(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base is not cls and base.__module__.startswith(HERE)]


def checks_of(contract: type[Contract]) -> Iterator[str]:
    """Names of a contract's checks."""
    for name in dir(contract):
        if name.startswith("test") and callable(getattr(contract, name)):
            yield name


class Contract:
    """What contracts of plugins and of kinds of tasks share: checks, and skips with their reason."""

    hook: ClassVar[str] = ""
    """The hook that the contract is about; none for a kind of task."""
    other_hooks: ClassVar[tuple[str, ...]] = ()
    """Further hooks that the contract checks."""

    skips: ClassVar[Mapping[str, str]] = {}
    """Name of a check → why it does not hold for what is tested."""

    @pytest.fixture(autouse=True)
    def skip_with_reason(self, request: pytest.FixtureRequest) -> None:
        # without the parameters in brackets
        name = getattr(request.node, "originalname", request.node.name)
        if name in self.skips:
            pytest.skip(self.skips[name])

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        checks = set(checks_of(cls))
        for name, reason in cls.skips.items():
            if name not in checks:
                raise ContractError(f"{cls.__name__}.skips: there is no check {name!r}{nearest(name, checks)}")
            if len(reason.strip()) < SHORTEST_REASON:
                raise ContractError(f"{cls.__name__}.skips: say why {name} does not hold, found {reason!r}")
        # a plugin that replaces a check by an empty one would pass: a reason has to be given in `skips`
        for name in () if cls.__module__.startswith(HERE) else vars(cls):
            if name.startswith("test") and any(hasattr(base, name) for base in contracts(cls)):
                raise ContractError(f"{cls.__name__}.{name}: overrides a check; name it in `skips` with the reason")


class PluginContract(Contract):
    """Base of the contracts of hooks. A plugin's test class derives from one of them and gives a ``plugin`` fixture::

        class TestLatentDistance(RegularizerContract):
            @pytest.fixture
            def plugin(self) -> LatentDistance:
                return LatentDistance(weight=2.0)

    Capabilities are class attributes. A check that cannot hold is named in ``skips`` with the reason why; a check that
    is overridden, or skipped without a reason, is an error when the class is made.
    """

    task_names: ClassVar[tuple[str, ...]] = DENSE
    """Names in :data:`mtl_core.testing.EXAMPLES` of tasks that the plugin works with."""
    image_size: ClassVar[tuple[int, int]] = (32, 64)
    """(H, W) in pixels."""
    width: ClassVar[int] = 4
    """Width of the networks that ``setup`` may ask for."""
    beside: ClassVar[Mapping[str, object]] = {}
    """Further plugins of the experiment, by name; the tested one is called ``"plugin"``."""
    use: ClassVar[Mapping[str, str]] = {}
    """``[use]`` of the experiment."""

    @pytest.fixture
    def plugin(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: give a `plugin` fixture that returns the plugin to test")

    @property
    def tasks(self) -> Tasks:
        """The tasks that the plugin is tried with."""
        return make_tasks(*self.task_names)

    def prepare(self, plugin: Any, tasks: Tasks | None = None, size: tuple[int, int] | None = None) -> Hooks:
        """A fresh copy of the plugin, set up as core does it; it is ``.plugins["plugin"]``.

        Only ``setup`` is seeded: afterwards the global generators are where they were, so that a draw from them shows.
        """
        hooks = Hooks({"plugin": plugin, **self.beside}, self.use, required=())
        tasks = self.tasks if tasks is None else tasks
        size = self.image_size if size is None else size
        backbone = StubBackbone(width=self.width)
        heads = stub_heads(backbone, tasks)
        under(0, lambda: hooks.setup(tasks, size, backbone, lambda name: torch.manual_seed(0), heads=heads))
        return hooks

    def on_meta(self, plugin: Any) -> Hooks:
        """The same on the ``meta`` device."""
        hooks = self.prepare(plugin)
        for made in hooks.plugins.values():
            if isinstance(made, nn.Module):
                made.to("meta")
        return hooks

    def other_tasks(self) -> Iterator[Tasks]:
        """Tasks of other numbers and in another order; a plugin may refuse some with an :class:`MtlError`."""
        for names in OTHER_TASKS:
            yield make_tasks(*names)

    def test_fills_its_place(self, plugin: Any) -> None:
        assert getattr(type(plugin), "mtl_hook_version", None) == HOOK_VERSION, "not declared with @plugin"
        assert hasattr(getattr(plugin, self.hook, None), "mtl_impl"), f"no @hookimpl {self.hook}"

    def test_first_line_of_the_docstring_says_what_it_is(self, plugin: Any) -> None:
        lines = inspect.cleandoc(type(plugin).__doc__ or "").splitlines()
        assert lines, f"{type(plugin).__name__} has no docstring; listings show its first line"
        assert lines[0].endswith("."), f"the first line is no sentence: {lines[0]!r}"

    def test_every_option_has_help(self, plugin: Any) -> None:
        silent = [name for name, option in options(type(plugin)).items() if not option.metadata.get("help", "").strip()]
        assert not silent, f"options without metadata=help(...): {silent}"

    def test_every_option_fits_an_experiment_file(self, plugin: Any) -> None:
        for name, option in options(type(plugin)).items():
            kind = kind_of(type(plugin), option)
            value = getattr(plugin, option.name)
            kept = structure(as_file(value), kind)
            assert kept == value, f"option {name}: {value!r} comes back from an experiment file as {kept!r}"

    def test_is_configuration_until_it_is_set_up(self, plugin: Any) -> None:
        fresh = attrs.evolve(plugin)
        for option in attrs.fields(type(plugin)):
            if option.init:
                assert getattr(fresh, option.name) == getattr(plugin, option.name), f"{option.name} is not kept"
        if isinstance(fresh, nn.Module):
            assert not fresh.state_dict(), f"made before setup: {list(fresh.state_dict())}; make it in setup"


def as_file(value: Any) -> Any:
    """A value as an experiment file gives it."""
    if isinstance(value, tuple):
        return [as_file(part) for part in value]
    return "none" if value is None else value


def failures(contract: type[Contract], plugin: Any) -> dict[str, BaseException]:
    """Run a contract's checks on a plugin, or on a kind of task, without pytest.

    :return: name of a check that failed → what it raised
    """
    found: dict[str, BaseException] = {}
    for name in checks_of(contract):
        if name not in contract.skips:
            try:
                getattr(contract(), name)(plugin)
            except Exception as error:
                found[name] = error
    return found


def attempt(what: str, function: Callable[[], Result]) -> Result | None:
    """Call a function that a plugin may refuse with an :class:`MtlError`, None then.

    :param what: what is tried, for the message of any other error
    """
    try:
        return function()
    except ContractError as error:
        raise AssertionError(f"{what}: {error}") from error
    except MtlError:
        return None
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {first_line(error)}") from error


def on_meta_device(function: Callable[[], Result]) -> Result:
    """Call a function on ``meta`` tensors; a host sync raises there."""
    try:
        return function()
    except (RuntimeError, NotImplementedError) as error:
        # torch has no class of its own for it; an error that does not name the device is the plugin's own
        if "meta" not in str(error) and "Meta" not in str(error) and "same device" not in str(error):
            raise
        raise AssertionError(
            "a value is read on the host (.item(), .cpu(), bool(...)), a shape depends on data, or a tensor was left on"
            f" another device: {first_line(error)} [meta device]"
        ) from error


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Untouched:
    """What a hook must not change: tensors in place, entries of dictionaries, attributes.

    :param tensors: by name
    :param holders: dictionaries, and objects with attributes, whose entries must stay the same objects
    """

    def __init__(self, tensors: Mapping[str, Tensor], **holders: Any) -> None:
        self.tensors = dict(tensors)
        self.before = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.learning = {name: tensor.requires_grad for name, tensor in self.tensors.items()}
        self.holders = holders
        self.entries = {name: entries_of(holder) for name, holder in holders.items()}

    def check(self) -> None:
        for name, before in self.before.items():
            assert same(self.tensors[name].detach(), before), f"{name} was changed in place"
            assert self.tensors[name].requires_grad is self.learning[name], f"{name}.requires_grad was changed"
        for name, entries in self.entries.items():
            check_entries(name, entries, entries_of(self.holders[name]))


def entries_of(holder: Any) -> dict[str, Any]:
    """Entries of a dictionary, or attributes of an attrs object but what a step logs."""
    if isinstance(holder, Mapping):
        return dict(holder)
    return {a.name: getattr(holder, a.name) for a in attrs.fields(type(holder)) if a.name != "logged"}


def check_entries(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    assert after.keys() == before.keys(), f"{name} had {sorted(before)} and has {sorted(after)} now"
    replaced = [key for key in before if after[key] is not before[key]]
    assert not replaced, f"{name}: {replaced} replaced; what is given belongs to all plugins, make a copy of your own"


class NothingKept:
    """Whether objects go when their step is over: a plugin that keeps them keeps the graph and its memory.

    :param parts: objects by name, which only the step may hold
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.parts = {name: weakref.ref(part) for name, part in parts.items()}

    def check(self, *plugins: Any) -> None:
        for plugin in plugins:
            kept = sorted(graphs_of(plugin))
            assert not kept, f"keeps the graph alive: {', '.join(kept)} has a gradient; keep value.detach()"
        # modules and closures refer to each other in circles, which only the collector takes apart
        gc.collect()
        alive = [name for name, part in self.parts.items() if part() is not None]
        assert not alive, f"keeps the graph alive: {', '.join(alive)} of a step that is over; keep value.detach()"


def graphs_of(value: Any, path: str = "", seen: set[int] | None = None) -> Iterator[str]:
    """Where an object holds tensors that were computed from others, as attribute paths."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        # parameters are leaves: they have none
        if value.grad_fn is not None:
            yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from graphs_of(item, f"{path}[{key!r}]" if path else str(key), seen)
    elif isinstance(value, list | tuple | set):
        for k, item in enumerate(value):
            yield from graphs_of(item, f"{path}[{k}]", seen)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        for key, item in vars(value).items():
            yield from graphs_of(item, f"{path}.{key}" if path else key, seen)


def repeats(plugin: Any) -> int:
    """How often to ask a plugin again."""
    return REPEATS if len(state_of(plugin)) < MANY else 3


def state_of(plugin: Any) -> dict[str, Any]:
    return plugin.state_dict() if isinstance(plugin, nn.Module) else {}


def through_a_file(state: dict[str, Any]) -> Any:
    """A state as a checkpoint gives it back: tensors and plain types only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resume(source: Hooks, target: Hooks) -> None:
    """Give every plugin of ``target`` what a checkpoint keeps of ``source``."""
    for name, plugin in target.plugins.items():
        if isinstance(plugin, nn.Module):
            plugin.load_state_dict(copy.deepcopy(through_a_file(state_of(source.plugins[name]))))


def same(a: Tensor, b: Tensor) -> bool:
    """Equal in shape, type and every value, NaN equal to NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    # NaN is the one value that differs from itself
    return bool(((a == b) | ((a != a) & (b != b))).all())


def under(global_seed: int, function: Callable[[], Result]) -> Result:
    """Call a function with the global generators of torch, numpy and Python in some state, which is put back."""
    numpy_state = np.random.get_state()
    python_state = random.getstate()
    # a hook that draws from a global generator gives other values under another seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        random.seed(global_seed)
        try:
            return function()
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def count_views(plugin: object) -> int:
    """How many views a plugin asks for."""
    return Hooks({"plugin": plugin}, required=()).count_views()
