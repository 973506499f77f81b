"""What a plugin is: one attrs class whose fields are options and whose ``@hookimpl`` methods are behaviour."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform, overload

import attrs

from mtl_core.errors import ContractError, nearest
from mtl_core.hooks.markers import HOOK_VERSION
from mtl_core.hooks.spec_table import hook_arguments

_C = TypeVar("_C", bound=type)


@attrs.frozen
class About:
    """What ``mtl explain`` says of a method; a plugin's class has it as the attribute ``about``.

    :param formula: the method's equations, in plain text
    :param source: authors, title, venue, equations
    :param cost: what it adds to a step: passes, memory, host syncs
    :param departs: where it differs from its source; "reconstructed" where the source has no formula
    """

    formula: str
    source: str
    cost: str
    departs: str = "nowhere that is known"


@overload
@dataclass_transform(kw_only_default=True, field_specifiers=(attrs.field,))
def plugin(cls: _C) -> _C: ...


@overload
@dataclass_transform(kw_only_default=True, field_specifiers=(attrs.field,))
def plugin(*, hooks: int = ...) -> Callable[[_C], _C]: ...


def plugin(cls: _C | None = None, *, hooks: int = HOOK_VERSION) -> _C | Callable[[_C], _C]:
    """Declare a plugin class.

    The class becomes an attrs class (keyword-only, compared by identity). A class that learns also derives from
    ``torch.nn.Module``, whose initialiser runs first, so that ``setup`` may assign modules, parameters and buffers.

    :param hooks: the hook version that the plugin was written for
    :raises ContractError: an initialiser, an option without a type or with a name that ``nn.Module`` owns, a hook's
        method without ``@hookimpl``, an ``@hookimpl`` that is no hook, or an argument that the hook does not pass
    """

    def declare(cls: Any) -> Any:
        _refuse_initialisers(cls)
        # NO_OP: with a validated field attrs would replace nn.Module.__setattr__, and parameters would vanish.
        cls.__attrs_pre_init__ = _base_initialiser(cls)
        made: Any = attrs.define(slots=False, eq=False, kw_only=True, on_setattr=attrs.setters.NO_OP, repr=False)(cls)
        _check_fields(made)
        # attrs wrote the initialiser just now; it is replaced here, where every mistake can still be listed
        made.__init__ = _explained(made)
        made.__repr__ = _describe
        made.mtl_hook_version = hooks
        if hooks == HOOK_VERSION:
            _check_hooks(made)
        return made

    return declare if cls is None else declare(cls)


def _refuse_initialisers(cls: type) -> None:
    """attrs writes ``__init__``; one written by hand would leave options unset or replace nn.Module's."""
    for name in ("__init__", "__attrs_pre_init__"):
        if name in vars(cls):
            raise ContractError(
                f"{cls.__qualname__}.{name}: a plugin's options are its fields and attrs writes the initialiser; "
                "create what is learned in the hook `setup`"
            )


def _base_initialiser(cls: type) -> Callable[[Any], None]:
    """The nearest initialiser that attrs did not write: nn.Module's for a plugin that learns."""
    bases: list[Any] = [c for c in cls.__mro__[1:] if "__init__" in vars(c) and "__attrs_attrs__" not in vars(c)]

    def initialise(self: Any) -> None:
        bases[0].__init__(self)

    return initialise


def _explained(cls: Any) -> Callable[..., None]:
    """The initialiser of attrs; a TypeError of it lists every mistake in values and names."""
    plain = cls.__init__

    @functools.wraps(plain)
    def initialise(self: Any, *positional: Any, **given: Any) -> None:
        try:
            plain(self, *positional, **given)
        except TypeError as error:
            from mtl_core.options.read import what_is_wrong

            problems = [] if positional else what_is_wrong(cls, given)
            if not problems:
                raise
            raise TypeError("\n  ".join([f"{cls.__name__}(...):", *problems])) from error

    return initialise


def _describe(self: Any) -> str:
    options = ", ".join(f"{a.name}={getattr(self, a.name)!r}" for a in attrs.fields(type(self)) if a.init)
    return f"{type(self).__name__}({options})"


def _check_fields(cls: type) -> None:
    """Refuse options without a type, and names that ``nn.Module`` owns: they would be overwritten without an error."""
    fields = attrs.fields(cls)
    for untyped in [a.name for a in fields if a.init and a.type is None]:
        raise ContractError(
            f"{cls.__qualname__}.{untyped}: an option needs a type; write `{untyped}: float = field(...)`"
        )
    # not imported here: a class that derives from nn.Module has imported torch, all others do without
    torch = sys.modules.get("torch")
    if torch is None or not issubclass(cls, torch.nn.Module):
        return
    owned = {a.name for a in fields} & set(dir(torch.nn.Module()))
    if owned:
        raise ContractError(f"{cls.__qualname__}: torch.nn.Module owns the name {min(owned)!r}; rename the field")


def _check_hooks(cls: type) -> None:
    """Refuse methods that look like hooks and would never be called, or not as they expect."""
    specs = hook_arguments()
    for name, method in inspect.getmembers(cls, callable):
        where = f"{cls.__qualname__}.{name}"
        marked = getattr(method, "mtl_impl", None)
        if name in specs and not marked:
            raise ContractError(f"{where}: has the name of a hook but no @hookimpl; decorate or rename it")
        if marked and name not in specs:
            raise ContractError(f"{where}: there is no hook of this name{nearest(name, specs)}")
        if marked:
            _check_signature(where, method, marked, specs[name])


def _check_signature(where: str, method: Any, marked: dict[str, Any], known: tuple[str, ...]) -> None:
    if marked["wrapper"] or marked["hookwrapper"]:
        raise ContractError(f"{where}: hook wrappers are not called; use a plain @hookimpl")
    if marked["tryfirst"] or marked["trylast"]:
        raise ContractError(
            f"{where}: tryfirst and trylast have no effect: plugins are called in the experiment's order"
        )
    for name, argument in inspect.signature(method).parameters.items():
        if name == "self":
            continue
        if name not in known:
            raise ContractError(
                f"{where}: the hook has no argument {name!r}{nearest(name, known)} (it has: {', '.join(known)})"
            )
        # pluggy passes the arguments without a default only, and by position
        if argument.default is not argument.empty or argument.kind is not argument.POSITIONAL_OR_KEYWORD:
            raise ContractError(f"{where}: {name!r} would not be passed; write it without default, `*` or `/`")
