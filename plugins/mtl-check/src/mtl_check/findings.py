"""What checks found, grouped by cause."""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from mtl_core import ContractError, MtlError

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CHANGING = re.compile(r"\d[\d.e+-]*|\[[^\]]*\]|\([^)]*\)")
"""What differs between two messages of one cause: numbers, lists, shapes."""


@attrs.define
class Findings:
    """How many checks passed, what failed by cause, and what the plugin refused."""

    passed: int = 0
    refused: dict[str, dict[str, list[str]]] = attrs.field(factory=dict)
    """Why it refused → what was tried → in which forms."""
    causes: dict[str, dict[str, list[str]]] = attrs.field(factory=dict)
    """Message → the checks that found it → in which forms."""
    _keys: dict[str, str] = attrs.field(factory=dict)

    @property
    def failed(self) -> bool:
        return bool(self.causes)

    def run(self, name: str, form: str, check: Callable[[], object]) -> None:
        """Run one check; an :class:`MtlError` that is no fault of the plugin is a refusal.

        :param form: what is special about it, such as ``"K = 5"``
        """
        try:
            check()
        except ContractError as error:
            self.fail(name, form, error)
        except MtlError as error:
            _note(self.refused, _first_line(error), name, form)
        except Exception as error:
            self.fail(name, form, error)
        else:
            self.passed += 1

    def fail(self, name: str, form: str, error: BaseException) -> None:
        message = _first_line(error)
        if not isinstance(error, AssertionError | MtlError):
            message = f"{type(error).__name__}: {message}"
        key = _CHANGING.sub("#", message)
        _note(self.causes, self._keys.setdefault(key, message), name, form)


def _note(table: dict[str, dict[str, list[str]]], message: str, name: str, form: str) -> None:
    forms = table.setdefault(message, {}).setdefault(name, [])
    if form and form not in forms:
        forms.append(form)


def _first_line(error: BaseException) -> str:
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__
