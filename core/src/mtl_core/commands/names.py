"""Runs of one name with other settings: reported before training, while the name can still be changed."""

from __future__ import annotations

import json
from pathlib import Path

from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.settings.diff import unlike
from mtl_core.settings.document import parse_toml, read_toml
from mtl_core.settings.toml_file import dump_experiment


def namesake(experiment: Experiment, out: Path) -> str:
    """One sentence on a run beside the folder that has this name and other settings, or an empty string.

    ``mtl compare`` takes runs of one name for seeds of one experiment, and refuses such a pair.

    :param out: the folder of the run that is about to begin
    """
    own = parse_toml(dump_experiment(experiment), experiment.name)
    for other in sorted(out.resolve().parent.glob("*/experiment.toml")):
        if other.parent == out.resolve():
            continue
        changed = _differs(other, own)
        if changed:
            return (
                f'{other.parent}: has the name "{experiment.name}" too, but {"; ".join(changed[:3])}; `mtl compare`'
                " takes one name for one experiment: give it another one, or compare them with --label"
            )
    return ""


def _differs(other: Path, own: dict[str, object]) -> list[str]:
    """By what a run of the same name is another experiment; nothing where it has another name or cannot be read."""
    try:
        text = read_toml(other)
        if f"name = {json.dumps(own['name'], ensure_ascii=False)}" not in text:
            return []  # by far the most, and reading them as TOML takes time
        document = parse_toml(text, str(other))
    except MtlError:
        return []
    same_row = document.get("name") == own["name"] and document.get("counts_for", []) == own["counts_for"]
    return unlike(document, own, ("seed",)) if same_row else []
