"""Which fields a user sets, and their types where annotations are text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from mtl_core.errors import ContractError
from mtl_core.options.fields import help, kind_of, options

if TYPE_CHECKING:
    from nowhere import Unknown


@attrs.define
class Base:
    size: tuple[int, int] = (1, 2)
    other: Unknown = None


@attrs.define
class Child(Base):
    rate: float | None = attrs.field(default=None, metadata=help("of learning"))
    count: int = attrs.field(default=0, init=False)


def test_options_are_what_the_initialiser_takes() -> None:
    assert list(options(Child)) == ["size", "other", "rate"]
    assert options(Child)["rate"].metadata == {"help": "of learning"}


@pytest.mark.parametrize(("name", "kind"), [("size", tuple[int, int]), ("rate", float | None)])
def test_a_type_that_is_text_is_evaluated_alone(name: str, kind: object) -> None:
    """The option beside it has a type that exists for checkers only."""
    assert kind_of(Child, options(Child)[name]) == kind


def test_a_type_without_a_meaning_is_the_authors_fault() -> None:
    with pytest.raises(ContractError, match=r"Child\.other: type 'Unknown': name 'Unknown' is not defined"):
        kind_of(Child, options(Child)["other"])
