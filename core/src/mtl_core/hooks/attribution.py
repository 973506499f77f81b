"""A plugin's name on what it raises and on what it logs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mtl_core.errors import ContractError, Terminated
from mtl_core.hooks.spec_table import hook_arguments

if TYPE_CHECKING:
    from mtl_core.step.step import Step


def guarded(name: str, plugin: object) -> SimpleNamespace:
    """The plugin's implementations, each adding the plugin's name to what it raises.

    An instance that answers only some of its class's hooks, by its options, names them in a property ``fills``.
    """
    # pluggy would register every method of the class; a namespace has only those that this instance answers
    fills = getattr(plugin, "fills", hook_arguments())
    methods = {hook: getattr(plugin, hook, None) for hook in hook_arguments() if hook in fills}
    return SimpleNamespace(**{hook: with_plugin_note(name, m) for hook, m in methods.items() if hasattr(m, "mtl_impl")})


def with_plugin_note(name: str, method: Any) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded_method(*args: object) -> Any:
        try:
            return method(*args)
        except Exception as error:
            error.add_note(f'in plugin "{name}", hook {method.__name__}')
            raise
        # SIGTERM that arrived during the call: not the plugin's doing
        except Terminated:
            raise
        except SystemExit as error:
            # the run would end as if it had succeeded
            raise ContractError(
                f'plugin "{name}": {method.__name__} ended the program (exit code {error.code}); a hook has to raise an'
                " error instead"
            ) from error

    return guarded_method


class logging_as:  # noqa: N801 - a context manager, used like a function
    """Put a plugin's name before what it logs on a step."""

    def __init__(self, name: str, step: Step | None) -> None:
        self.name = name
        self.step = step
        self.before = {} if step is None else dict(step.logged)

    def __enter__(self) -> None:
        if self.step is not None:
            self.step.logged = {}

    def __exit__(self, *error: object) -> None:
        if self.step is None:
            return
        own = {f"{self.name}/{key}": value for key, value in self.step.logged.items()}
        # a plugin logs "weight", not "mine/weight": it need not know its name, and two instances do not collide
        self.step.logged = self.before | own
