"""A plugin that is a class in a plain file beside the experiment."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtl_core import (
    CheckpointError,
    Experiment,
    ExperimentError,
    RunFolder,
    dump_experiment,
    evaluate_run,
    hookimpl,
    load_experiment,
    parse_experiment,
    plugin,
    train,
)
from mtl_core.hooks.plain_file import load_from_file
from mtl_core.settings.file_keys import anchor_files, short_name
from mtl_core.testing import main
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork

IDEA = '''
from __future__ import annotations

from attrs import field
from mtl_core import Sample, Step, help, hookimpl, plugin
from torch import Tensor

@plugin
class MyIdea:
    """The mean of the predicted depth."""

    weight: float = field(default=0.5, metadata=help("coefficient"))

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"mean": self.weight * step.predictions["depth"].square().mean()}

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return sample
'''

HEAD = 'name = "r"\nepochs = 1\nbatch_size = 2\ndevice = "cpu"\nvalidation = 0.25\n'
TABLES = "[plugins.data]\n[plugins.labels]\n[plugins.network]\n"


@pytest.fixture
def file(tmp_path: Path, install: Callable[..., None]) -> Path:
    """An experiment with its idea beside it."""
    kinds = {"data": "ToyData", "labels": "ToyLabels", "network": "ToyNetwork"}
    install("mtl-toys", {n: f"fake_toys:{k}" for n, k in kinds.items()}, "from mtl_core.testing.toys import *")
    folder = tmp_path / "beside"
    folder.mkdir()
    (folder / "my_idea.py").write_text(IDEA)
    (folder / "e.toml").write_text(f'{HEAD}{TABLES}[plugins."./my_idea.py:MyIdea"]\nweight = 2.0\n')
    return folder / "e.toml"


def run(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code in ({None, 0} if code == 0 else {code})


def test_it_is_a_plugin_like_any_other(file: Path) -> None:
    path = list(sys.path)
    made = load_experiment(file, ["plugins.myidea.weight=3", 'plugins."./my_idea.py:MyIdea".weight=4'])
    assert sys.path == path
    assert list(made.plugins) == ["data", "labels", "network", "myidea"]
    assert repr(made.plugins["myidea"]) == "MyIdea(weight=4.0)"
    assert not (file.parent / "__pycache__").exists()


def test_a_second_instance(file: Path) -> None:
    file.write_text(file.read_text() + '[plugins."./my_idea.py:MyIdea#2"]\n')
    made = load_experiment(file)
    assert list(made.plugins)[3:] == ["myidea", "myidea#2"]
    text = dump_experiment(made)
    assert '"./my_idea.py:MyIdea#2"' in text
    again = parse_experiment(text, "copy", folder=file.parent)
    assert dump_experiment(again) == text


def test_trains_resumes_evaluates_and_predicts_from_the_run_folder_alone(file: Path, tmp_path: Path) -> None:
    from PIL import Image

    out = tmp_path / "run"
    run("train", file, "--out", out, "--quiet")
    record = json.loads((out / "metrics.jsonl").read_text())
    assert record["myidea/mean"] > 0
    assert (out / "my_idea.py").read_text() == IDEA
    assert json.loads((out / "versions.json").read_text())["myidea"].startswith("my_idea.py sha256 ")
    run("train", file, "--out", out, "--quiet", "--resume", "--set", "epochs=2")
    for path in (file, file.parent / "my_idea.py"):
        path.rename(path.with_suffix(".gone"))
    run("train", out / "experiment.toml", "--out", out, "--quiet", "--resume", "--set", "epochs=3")
    assert len(RunFolder(out).history()) == 3
    run("evaluate", out, "--split", "train")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    run("predict", out, tmp_path / "photo.png", "--out", tmp_path / "predictions")
    assert (tmp_path / "predictions" / "photo_depth.png").is_file()


def test_changed_code_does_not_go_on(file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out, idea = tmp_path / "run", file.parent / "my_idea.py"
    run("train", file, "--out", out, "--quiet")
    idea.write_text(IDEA.replace("mean()}", "sum()}"))
    with pytest.raises(CheckpointError, match=r"has changed since this run began, .* go on with the run's own copy"):
        train(load_experiment(file, ["epochs=2"]), out, resume=True)
    own = load_experiment(out / "experiment.toml", ["epochs=2"])
    assert len(train(own, out, resume=True).history()) == 2
    (out / "my_idea.py").write_text(idea.read_text())
    with pytest.raises(CheckpointError, match="the run's copy of a plugin has changed since it began; put it back"):
        train(load_experiment(out / "experiment.toml", ["epochs=3"]), out, resume=True)
    caplog.clear()
    evaluate_run(RunFolder(out))
    assert f"{out}/my_idea.py: this file has changed since the run was trained with it" in caplog.text


def test_another_file_in_the_run_folder_is_not_overwritten(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "my_idea.py").write_text("print('mine')\n")
    with pytest.raises(CheckpointError, match=r"differs from .*/beside/my_idea.py, which the run would copy here"):
        train(load_experiment(file), out)
    assert (out / "my_idea.py").read_text() == "print('mine')\n"


def test_the_run_folder_may_be_the_experiments_own(file: Path) -> None:
    train(load_experiment(file), file.parent)
    assert (file.parent / "my_idea.py").read_text() == IDEA


def test_explain_reads_the_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("explain", f"{file.parent}/my_idea.py:MyIdea")
    shown = capsys.readouterr().out
    assert "The mean of the predicted depth." in shown
    assert "coefficient" in shown


WRONG = {
    "no file": ("./my_ideas.py:MyIdea", None, 'there is no file {folder}/my_ideas.py; did you mean "my_idea.py"?'),
    "no class": ("./my_idea.py:Idea", None, "there is no class 'Idea'; did you mean \"MyIdea\"? (it has: MyIdea)"),
    "the class is left out": ("./my_idea.py", None, 'expected the class behind the file, as in "./my_idea.py:MyIdea"'),
    "no syntax": ("./my_idea.py:MyIdea", "x = 1\nclass", "my_idea.py:2: cannot be imported: SyntaxError: "),
    "an error": ("./my_idea.py:MyIdea", "x = 1\n1 / 0\n", ":2: cannot be imported: ZeroDivisionError: division"),
    "it ends": ("./my_idea.py:MyIdea", "raise SystemExit(3)\n", "my_idea.py:1: cannot be imported: SystemExit: 3"),
    "a file beside it": (
        "./my_idea.py:MyIdea", "import helper_of_mine\n",
        "ModuleNotFoundError: No module named 'helper_of_mine'; install it (files beside this one are not found",
    ),
    "no plugin": ("./my_idea.py:MyIdea", "class MyIdea: pass\n", "is not a class declared with @plugin; write"),
    "no hook": (
        "./my_idea.py:MyIdea", "from mtl_core import plugin\n@plugin\nclass MyIdea:\n    x: int = 1\n",
        "MyIdea has no @hookimpl method",
    ),
    "a hook without a mark": (
        "./my_idea.py:MyIdea",
        "from mtl_core import plugin\n@plugin\nclass MyIdea:\n    def augment(self, images): return images\n",
        "ContractError: MyIdea.augment: has the name of a hook but no @hookimpl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line(case: str, file: Path) -> None:
    key, text, message = WRONG[case]
    if text is not None:
        (file.parent / "my_idea.py").write_text(text)
    file.write_text(f'{HEAD}{TABLES}[plugins."{key}"]\n')
    with pytest.raises(ExperimentError) as caught:
        load_experiment(file)
    (line,) = caught.value.problems
    assert line.startswith(f"plugins.{key}: ")
    assert message.format(folder=file.parent) in line
    assert "\n" not in line


def test_names_that_clash(file: Path) -> None:
    (file.parent / "other").mkdir()
    (file.parent / "other" / "my_idea.py").write_text(IDEA.replace("MyIdea", "Second"))
    (file.parent / "third.py").write_text(IDEA)
    text = f'{HEAD}{TABLES}[plugins."./my_idea.py:MyIdea"]\n'
    file.write_text(text + '[plugins."./other/my_idea.py:Second"]\n')
    with pytest.raises(ExperimentError, match=r"my_idea.py and .*/other/my_idea.py have the same name; rename one"):
        load_experiment(file)
    file.write_text(text + '[plugins."./third.py:MyIdea"]\n')
    with pytest.raises(ExperimentError, match='another plugin is called "myidea" too; rename the class'):
        load_experiment(file)


def test_an_edited_file_is_loaded_anew(file: Path) -> None:
    first = load_experiment(file).plugins["myidea"]
    (file.parent / "my_idea.py").write_text(IDEA.replace("mean of", "sum of"))
    second = load_experiment(file).plugins["myidea"]
    assert (type(first).__doc__, type(second).__doc__) == (
        "The mean of the predicted depth.", "The sum of the predicted depth.",
    )  # fmt: skip


def test_other_processes_find_the_file(file: Path) -> None:
    """A loader's worker that is spawned unpickles the plugin without having read the experiment."""
    cls: Any = load_from_file(file.parent / "my_idea.py", "MyIdea")
    code = "import sys, pickle; made = pickle.load(sys.stdin.buffer); print(type(made).__name__, made.weight)"
    ended = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(cls(weight=3.0)), capture_output=True)
    assert ended.stdout.split() == [b"MyIdea", b"3.0"], ended.stderr


def test_paths_become_absolute_at_any_depth(tmp_path: Path) -> None:
    document = {"plugins": {"a": {}}, "experiments": {"x": {"plugins": {"./m.py:C#2": {"weight": 1}}}}}
    found = anchor_files(document, tmp_path)
    assert found == {
        "plugins": {"a": {}},
        "experiments": {"x": {"plugins": {f"{tmp_path.resolve()}/m.py:C#2": {"weight": 1}}}},
    }
    assert short_name("./m.py:C#2") == "c#2"
    assert short_name("jtr") == "jtr"


@plugin
class Mine:
    """A plugin that only this program has."""

    weight: float = 1.0

    @hookimpl
    def compute_regularizer(self) -> None:
        return None


def in_python(epochs: int) -> Experiment:
    plugins = [ToyData(), ToyLabels(), ToyNetwork(), Mine()]
    return Experiment(name="r", plugins=plugins, epochs=epochs, batch_size=2, validation=0.25, device="cpu")


def test_python_defined_runs_go_on_and_are_judged_with_their_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(in_python(1), tmp_path)
    resumed = train(in_python(2), tmp_path, resume=True)
    assert len(resumed.history()) == 2
    found = evaluate_run(resumed, experiment=in_python(2))
    assert found == pytest.approx(json.loads(resumed.results.read_text())["metrics"])
    run("evaluate", tmp_path, code=2)
    assert "mine, toydata, toylabels, toynetwork: defined in Python; give the experiment in Python" in (
        capsys.readouterr().err
    )
