"""What every contract class has: the plugin behind a real façade, skips with their reason, checks of its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch import Tensor, nn

from mtl_core.errors import ContractError, nearest
from mtl_core.hooks.markers import HOOK_VERSION
from mtl_core.hooks.relay import Hooks
from mtl_core.options.convert import structure
from mtl_core.options.fields import kind_of, options
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.factories import DENSE, make_tasks
from mtl_core.testing.toys import StubBackbone

HERE = "mtl_core.testing."
SHORTEST_REASON = 10


class Contract:
    """What every contract class has: the ``plugin`` fixture, and ``skips``.

    A check that cannot hold is named in ``skips`` with the reason why; a check that is overridden, or skipped without a
    reason, is an error when the class is made.
    """

    hook: ClassVar[str] = ""
    """The hook that the contract is about."""
    other_hooks: ClassVar[tuple[str, ...]] = ()
    """Further hooks that the contract checks."""
    skips: ClassVar[Mapping[str, str]] = {}
    """Name of a check → why it does not hold for this plugin."""

    @pytest.fixture
    def plugin(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: give a `plugin` fixture that returns the plugin to test")

    @pytest.fixture(autouse=True)
    def skip_with_reason(self, request: pytest.FixtureRequest) -> None:
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


def contracts(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base is not cls and base.__module__.startswith(HERE)]


def checks_of(contract: type[Contract]) -> Iterator[str]:
    """Names of a contract's checks."""
    for name in dir(contract):
        if name.startswith("test") and callable(getattr(contract, name)):
            yield name


class PluginContract(Contract):
    """Base of the contracts of hooks. A plugin's test class derives from one of them and gives a ``plugin`` fixture::

        class TestLatentDistance(RegularizerContract):
            @pytest.fixture
            def plugin(self) -> LatentDistance:
                return LatentDistance(weight=2.0)

    Capabilities are class attributes.
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

    @property
    def tasks(self) -> Tasks:
        """The tasks that the plugin is tried with."""
        return make_tasks(*self.task_names)

    def prepare(self, plugin: Any, tasks: Tasks | None = None) -> Hooks:
        """A fresh copy of the plugin, set up as core does it; it is ``.plugins["plugin"]``."""
        hooks = Hooks({"plugin": plugin, **self.beside}, self.use, required=())
        tasks = self.tasks if tasks is None else tasks
        hooks.setup(tasks, self.image_size, StubBackbone(width=self.width), lambda name: torch.manual_seed(0))
        return hooks

    def on_meta(self, plugin: Any) -> Hooks:
        """The same on the ``meta`` device."""
        hooks = self.prepare(plugin)
        for copy in hooks.plugins.values():
            if isinstance(copy, nn.Module):
                copy.to("meta")
        return hooks

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
        copy = attrs.evolve(plugin)
        for option in attrs.fields(type(plugin)):
            if option.init:
                assert getattr(copy, option.name) == getattr(plugin, option.name), f"{option.name} is not kept"
        if isinstance(copy, nn.Module):
            assert not copy.state_dict(), f"made before setup: {list(copy.state_dict())}; make it in setup"


def as_file(value: Any) -> Any:
    """A value as an experiment file gives it."""
    if isinstance(value, tuple):
        return [as_file(part) for part in value]
    return "none" if value is None else value


def failures(contract: type[Contract], plugin: Any) -> dict[str, BaseException]:
    """Run a contract's checks on a plugin without pytest.

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


class Untouched:
    """Tensors that a hook must not change in place."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)
        self.before = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}

    def check(self) -> None:
        for name, before in self.before.items():
            assert same(self.tensors[name].detach(), before), f"{name} was changed in place"


def same(a: Tensor, b: Tensor) -> bool:
    """Equal in shape, type and every value, NaN equal to NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())


def under(global_seed: int, function: Callable[[], Any]) -> Any:
    """Call a function with torch's global generator in some state, which is put back."""
    # a hook that draws from the global generator gives other values under another seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(global_seed)
        return function()
