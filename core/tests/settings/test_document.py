"""TOML files and texts: one line with file, line and reason for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core.errors import ExperimentError
from mtl_core.settings.document import parse_toml, read_toml


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = 1\nb =\n", 2, "not valid TOML: Invalid value"),
        ("[plugins.toy]\n\n[plugins.toy]\n", 3, 'a second instance of a plugin is written [plugins."toy#2"]'),
        ("a = 1\nb = [1,\n", 3, "not valid TOML"),
    ],
)
def test_syntax_errors_have_file_and_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ExperimentError, match=f"^trial.toml:{line}: 1 problem") as error:
        parse_toml(text, "trial.toml")
    assert message in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "rooms.toml").write_bytes(b"name = '\xff'")
    for name, message in {"room.toml": 'no such file; did you mean "rooms.toml"', "rooms.toml": "not UTF-8"}.items():
        with pytest.raises(ExperimentError, match=message):
            read_toml(tmp_path / name)
    with pytest.raises(ExperimentError, match="cannot be read"):
        read_toml(tmp_path)


def test_a_document_is_plain_values() -> None:
    assert parse_toml('a = 1\n[b]\nc = "x"\n', "x") == {"a": 1, "b": {"c": "x"}}


def test_a_file_of_an_editor_that_marks_the_byte_order(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(tmp_path / "x.toml") == "a = 1"
