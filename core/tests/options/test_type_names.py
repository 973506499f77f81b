"""Types and values in a reader's words."""

from __future__ import annotations

from typing import Any, Literal, Optional, Union

import pytest

from mtl_core.options.type_names import describe_value, endless, expected, is_literal, is_table, is_tuple, is_union


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
        (Any, "any value"),
        (object, "any value"),
        (Literal["a", "b"], 'one of "a", "b"'),
        (Literal["a"], '"a"'),
        (Literal[1, "auto"], 'one of 1, "auto"'),
        (float | None, 'a number or "none"'),
        (Optional[str], 'text or "none"'),  # noqa: UP045 - both spellings are in use
        (Union[int, Literal["auto"]], 'a whole number or "auto"'),  # noqa: UP007
        (tuple[int, ...], "a list (a whole number each)"),
        (tuple[Any, ...], "a list"),
        (tuple[int, str], "a list of 2 (a whole number, text)"),
        (tuple[tuple[int, int], ...], "a list (a list of 2 (a whole number, a whole number) each)"),
        (dict[str, float], "a table"),
    ],
)
def test_a_type_in_words(kind: Any, words: str) -> None:
    assert expected(kind) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("abc", '"abc" (text)'),
        (True, "true (boolean)"),
        (1, "1 (whole number)"),
        (1.0, "1.0 (number)"),
        ([1, 2], "[1, 2] (list)"),
        ((1, 2), "(1, 2) (list)"),
        ({"a": 1}, "{'a': 1} (table)"),
        (None, "None (NoneType)"),
    ],
)
def test_a_value_with_its_type(value: object, words: str) -> None:
    assert describe_value(value) == words


def test_a_long_value_is_cut() -> None:
    shown = describe_value("x" * 200)
    assert shown.endswith(" ... (text)")
    assert len(shown) == 76 + len(" ... (text)")


def test_kinds_exclude_each_other() -> None:
    kinds = {Literal["a"]: is_literal, dict[str, int]: is_table, int | None: is_union, tuple[int, int]: is_tuple}
    for kind, asked in kinds.items():
        assert [one(kind) for one in kinds.values()] == [one is asked for one in kinds.values()]
    assert endless(tuple[int, ...])
    assert not endless(tuple[int, int])
