"""Names of plugins in plain files: in an experiment file, in a run, with and without a folder."""

from __future__ import annotations

from pathlib import Path

from mtl_core import (
    dump_experiment,
    load_experiment,
    parse_experiment,
)
from mtl_core.settings.file_keys import anchor_files, key_of, short_name


def test_a_second_instance(idea_file: Path) -> None:
    idea_file.write_text(idea_file.read_text() + '[plugins."./my_idea.py:MyIdea#2"]\n')
    made = load_experiment(idea_file)
    assert list(made.plugins)[3:] == ["myidea", "myidea#2"]
    text = dump_experiment(made)
    assert '"./my_idea.py:MyIdea#2"' in text
    again = parse_experiment(text, "copy", folder=idea_file.parent)
    assert dump_experiment(again) == text


def test_paths_become_absolute_at_any_depth(tmp_path: Path) -> None:
    document = {"plugins": {"a": {}}, "experiments": {"x": {"plugins": {"./m.py:C#2": {"weight": 1}}}}}
    found = anchor_files(document, tmp_path)
    assert found == {
        "plugins": {"a": {}},
        "experiments": {"x": {"plugins": {f"{tmp_path.resolve()}/m.py:C#2": {"weight": 1}}}},
    }
    assert short_name("./m.py:C#2") == "c#2"
    assert short_name("jtr") == "jtr"


def test_a_plugin_is_written_by_its_file_beside_the_experiment_or_anchored(idea_file: Path) -> None:
    made = load_experiment(idea_file).plugins["myidea"]
    assert key_of("myidea", made) == "./my_idea.py:MyIdea"
    assert key_of("myidea#2", made) == "./my_idea.py:MyIdea#2"
    assert key_of("myidea", made, anchored=True) == f"{idea_file.parent.resolve()}/my_idea.py:MyIdea"
    assert key_of("renamed", made) == "renamed", "Python gave it another name, which no file could say"
    assert key_of("toy", object()) == "toy"
