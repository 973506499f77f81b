"""The decorator: what it keeps working, and what it refuses at the moment of definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core.errors import ContractError
from mtl_core.hooks.markers import HOOK_VERSION, hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.fields import help


@plugin
class Learns(nn.Module):
    """Two validated fields and one of everything that a module can hold."""

    width: int = field(default=3, validator=validators.gt(0), metadata=help("width"))
    rate: float = field(default=0.5, validator=[validators.gt(0), validators.le(1)])

    @hookimpl
    def setup(self, name: str) -> None:
        self.layer = nn.Linear(self.width, 2)
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.zeros(2))


class Mixin:
    def double(self) -> int:
        return 2


def test_parameters_and_buffers_survive_validated_fields() -> None:
    made = Learns(width=5)
    made.setup("learns")
    assert {name for name, _ in made.named_parameters()} == {"layer.weight", "layer.bias", "scale"}
    assert set(made.state_dict()) == {"layer.weight", "layer.bias", "scale", "mean"}
    assert made.layer.weight.shape == (2, 5)


def test_fields_are_validated_when_made() -> None:
    with pytest.raises(ValueError, match="width"):
        Learns(width=0)


def test_a_copy_has_the_options_and_nothing_learned() -> None:
    made = Learns(width=5)
    made.setup("learns")
    copy = attrs.evolve(made)
    assert (copy.width, copy.rate) == (5, 0.5)
    assert not list(copy.parameters())


def test_plugins_are_compared_by_identity() -> None:
    assert Learns() != Learns()
    assert len({Learns(), Learns()}) == 2


def test_repr_shows_the_options() -> None:
    assert repr(Learns(width=7)) == "Learns(width=7, rate=0.5)"


def test_a_mixin_before_the_module_does_not_keep_it_from_starting() -> None:
    @plugin
    class Mixed(Mixin, nn.Module):
        width: int = 3

    made = Mixed()
    made.layer = nn.Linear(1, 1)
    assert len(list(made.parameters())) == 2


def test_a_plugin_may_extend_another_that_has_a_required_option() -> None:
    @plugin
    class Base(nn.Module):
        root: str

    @plugin
    class Extended(Base):
        width: int = 3

    made = Extended(root="here", width=4)
    made.layer = nn.Linear(1, 1)
    assert (made.root, made.width, len(list(made.parameters()))) == ("here", 4, 2)


@pytest.mark.parametrize("name", ["type", "training", "forward", "state_dict"])
@pytest.mark.parametrize("annotated", [True, False])
def test_names_that_modules_own_are_refused(name: str, annotated: bool) -> None:
    option = field(default=1) if annotated else field(default=1, type=int)
    members: dict[str, Any] = {name: option, **({"__annotations__": {name: int}} if annotated else {})}
    with pytest.raises(ContractError, match=f"torch.nn.Module owns the name '{name}'; rename the field"):
        plugin(type("Clash", (nn.Module,), members))


def test_names_that_modules_own_are_free_where_nothing_learns() -> None:
    made = plugin(type("Free", (), {"__annotations__": {"type": str}, "type": "a"}))()
    assert made.type == "a"


def no_hookimpl() -> type:
    class Plain:
        def augment(self, images: Tensor) -> Tensor:
            return images

    return Plain


def misspelt_hook() -> type:
    class Misspelt:
        @hookimpl
        def compute_regulariser(self, step: object) -> None: ...

    return Misspelt


def misspelt_argument() -> type:
    class Misspelt:
        @hookimpl
        def augment(self, image: Tensor) -> None: ...

    return Misspelt


def argument_with_default() -> type:
    class Defaults:
        @hookimpl
        def augment(self, images: Tensor, generator: object = None) -> None: ...

    return Defaults


def keyword_argument() -> type:
    class Keyword:
        @hookimpl
        def augment(self, *, images: Tensor) -> None: ...

    return Keyword


def wrapper() -> type:
    class Wraps:
        @hookimpl(wrapper=True)
        def augment(self, images: Tensor) -> Any:
            return (yield)

    return Wraps


def own_initialiser() -> type:
    class Own:
        def __init__(self) -> None: ...

    return Own


def untyped_option() -> type:
    class Untyped:
        rate = field(default=1.0)

    return Untyped


REFUSED = {
    no_hookimpl: r"Plain\.augment: has the name of a hook but no @hookimpl",
    misspelt_hook: r'no hook of this name; did you mean "compute_regularizer"\?',
    misspelt_argument: r"no argument 'image'; did you mean \"images\"\? \(it has: images, generator\)",
    argument_with_default: "'generator' would not be passed",
    keyword_argument: "'images' would not be passed",
    wrapper: "hook wrappers are not called",
    own_initialiser: r"Own\.__init__: .* create what is learned in the hook `setup`",
    untyped_option: r"Untyped\.rate: an option needs a type",
}


@pytest.mark.parametrize(("make", "message"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_refused_when_defined(make: Callable[[], type], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        plugin(make())


def test_an_overridden_hook_needs_its_mark_again() -> None:
    class Child(Learns):
        def setup(self, name: str) -> None: ...

    with pytest.raises(ContractError, match="no @hookimpl"):
        plugin(Child)


def test_another_hook_version_is_recorded_before_anything_is_checked() -> None:
    made = plugin(hooks=HOOK_VERSION + 1)(misspelt_hook())
    assert made.mtl_hook_version == HOOK_VERSION + 1


@pytest.mark.parametrize("option", ["tryfirst", "trylast"])
def test_an_order_that_would_be_ignored_is_refused(option: str) -> None:
    from mtl_core import ContractError, hookimpl, plugin

    with pytest.raises(ContractError, match="tryfirst and trylast have no effect"):

        @plugin
        class Early:
            @hookimpl(**{option: True})
            def augment(self, images: object) -> object:
                return images
