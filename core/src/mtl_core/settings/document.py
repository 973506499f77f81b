"""TOML files and texts as documents, with one line for what is wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from mtl_core.errors import ExperimentError, nearest


def read_toml(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # a byte order mark, which some editors write, is no part of the text
    except FileNotFoundError:
        others = [file.name for file in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise ExperimentError(str(path), [f"there is no such file{nearest(path.name, others)}"]) from None
    except UnicodeDecodeError as error:
        raise ExperimentError(str(path), [f"not a text file: byte {error.start} is not UTF-8"]) from None
    except OSError as error:
        raise ExperimentError(str(path), [f"cannot be read: {error.strerror}"]) from None


def parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # tomllib gives the position in its message only (as attributes from Python 3.14 on); a test pins the wording
        where = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        line = where[1] if where and where[1] else str(text.count("\n") + 1)
        message = str(error)[: where.start()] if where else str(error)
        twice = re.match(r"Cannot declare \('plugins', '(.*)'\) twice", message)
        remedy = f'; a second instance of a plugin is written [plugins."{twice[1]}#2"]' if twice else ""
        raise ExperimentError(f"{source}:{line}", [f"not valid TOML: {message}{remedy}"]) from None
