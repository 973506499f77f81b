"""Values get the type of their option, and nothing is converted that a reader would not expect."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_core.options.convert import Mismatch, Text, structure

STRICT: list[tuple[Any, Any]] = [
    ("false", bool), (0, bool), (2.7, int), (2.0, int), (True, int), ("2", int), ("abc", float), (True, float),
    (float("nan"), float), (3, str), (True, str), ("abc", tuple[str, ...]), ([1, 2, 3], tuple[int, int]),
    ([1, "x"], tuple[int, ...]), (True, Literal[1, 2]), (32, Literal["32"]), ("auto ", float | Literal["auto"]),
    ({"a": 1}, dict[str, str]), ([], dict[str, str]), (None, float), ("None", float | None), (10**400, float),
]  # fmt: skip
ACCEPTED: list[tuple[Any, Any, Any]] = [
    (2, float, 2.0), (True, bool, True), ([1, 2], tuple[int, int], (1, 2)), ([], tuple[str, ...], ()),
    ("auto", float | Literal["auto"], "auto"), (3, float | Literal["auto"], 3.0), ("none", float | None, None),
    ("none", str | None, None), ("none", Literal["none", "all"] | None, "none"), (None, int | None, None),
    ([[1], [2, 3]], tuple[tuple[int, ...], ...], ((1,), (2, 3))), ({"a": "b"}, dict[str, str], {"a": "b"}),
    (1, bool | int, 1), ("x", tuple[int, ...] | str, "x"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind"), STRICT, ids=repr)
def test_another_type_is_refused(value: Any, kind: Any) -> None:
    with pytest.raises(Mismatch):
        structure(value, kind)


@pytest.mark.parametrize(("value", "kind", "result"), ACCEPTED, ids=repr)
def test_the_type_is_kept(value: Any, kind: Any, result: Any) -> None:
    made = structure(value, kind)
    assert made == result
    assert type(made) is type(result)


FROM_TEXT: list[tuple[str, Any, Any]] = [
    ("2", float, 2.0), ("2", str, "2"), ("true", bool, True), ("true", str, "true"),
    ("32", Literal["32", "bf16"], "32"),
    ('"a b"', str, "a b"), ("a b", str, "a b"), ("", str, ""), ("1,2", tuple[int, int], (1, 2)),
    ("[1, 2]", tuple[int, int], (1, 2)), ("a, b", tuple[str, ...], ("a", "b")), ("a", tuple[str, ...], ("a",)),
    ("", tuple[str, ...], ()), ("none", float | None, None), ("1e-3", float, 1e-3),
    ("auto", float | Literal["auto"], "auto"),
    ("8,8", tuple[int, int] | None, (8, 8)), ("C:\\new", str, "C:\\new"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "result"), FROM_TEXT, ids=repr)
def test_the_command_line_goes_by_the_type(text: str, kind: Any, result: Any) -> None:
    made = structure(Text(text), kind)
    assert made == result
    assert type(made) is type(result)


@pytest.mark.parametrize(("text", "kind"), [("2.7", int), ("yes", bool), ("abc", float), ("1,2,3", tuple[int, int])])
def test_the_command_line_is_as_strict(text: str, kind: Any) -> None:
    with pytest.raises(Mismatch):
        structure(Text(text), kind)


@settings(derandomize=True, deadline=None)
@given(st.one_of(st.integers(), st.text(), st.booleans(), st.floats(), st.lists(st.integers()), st.none()))
def test_nothing_is_converted_but_whole_numbers_to_numbers(value: Any) -> None:
    for kind in (bool, int, float, str, tuple[int, ...]):
        try:
            made = structure(value, kind)
        except Mismatch:
            continue
        assert made == (tuple(value) if isinstance(value, list) else type(made)(value))
        assert type(value) is type(made) or (type(value), type(made)) in {(int, float), (list, tuple)}
