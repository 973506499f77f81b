"""Plugins in plain files within suites and sets of runs: every run finds them, wherever it is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core import RunFolder, load_experiment, parse_experiment, train
from mtl_suite.engine import Process
from mtl_suite.existing_runs import check_runs
from mtl_suite.plan import load_suite
from mtl_suite.sets import each

IDEA = '''
from attrs import field
from mtl_core import help, hookimpl, plugin

@plugin
class MyIdea:
    """Nothing much."""

    weight: float = field(default=0.5, metadata=help("coefficient"))

    @hookimpl
    def compute_regularizer(self, step):
        return {"mean": self.weight * step.predictions["depth"].square().mean()}
'''

PLUGINS = """
[plugins.scenes]
size = [32, 32]
train = 4
test = 2
tasks = ["segmentation", "depth"]
[plugins.full]
[plugins.segnet]
width = 4
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """An experiment with its idea beside it, and a suite in another folder that names both."""
    (tmp_path / "ideas").mkdir()
    (tmp_path / "ideas" / "my_idea.py").write_text(IDEA)
    (tmp_path / "ideas" / "e.toml").write_text(
        f'name = "e"\nepochs = 1\nbatch_size = 2\ndevice = "cpu"\n{PLUGINS}[plugins."./my_idea.py:MyIdea"]\n'
    )
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "s.toml").write_text(
        'name = "s"\n[experiments.a]\nfile = "../ideas/e.toml"\nvary = {"plugins.myidea.weight" = [1.0, 2.0]}\n'
        'choose_on = "depth/abs_err"\n[experiments.b]\nfile = "../ideas/e.toml"\n'
        'each_task = ["segmentation", "depth"]\n'
    )
    return tmp_path


def test_jobs_of_a_suite_find_the_file(files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    suite = load_suite(files / "suites" / "s.toml", ["plugins.myidea.weight=3"], tmp_path / "runs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made = [parse_experiment(job.text, job.title) for job in suite.jobs]
    assert [list(one.plugins)[-1] for one in made] == ["myidea"] * len(made)
    assert {repr(one.plugins["myidea"]) for one in made if one.name == "b"} == {"MyIdea(weight=3.0)"}


def test_vary_reaches_the_plugin(files: Path, tmp_path: Path) -> None:
    suite = load_suite(files / "suites" / "s.toml", folder=tmp_path / "runs")
    made = [parse_experiment(job.text, job.title) for job in suite.jobs if job.row == "a"]
    assert [repr(one.plugins["myidea"]) for one in made] == ["MyIdea(weight=1.0)", "MyIdea(weight=2.0)"]


def test_a_job_trains_and_is_known_again(files: Path, tmp_path: Path) -> None:
    suite = load_suite(files / "suites" / "s.toml", folder=tmp_path / "runs")
    job = next(job for job in suite.jobs if job.row == "a")
    train(parse_experiment(job.text, job.title), job.folder)
    assert RunFolder(job.folder).folder.joinpath("my_idea.py").read_text() == IDEA
    check_runs([job])
    assert job.done


def test_a_set_of_runs_finds_the_file(files: Path) -> None:
    made = each(load_experiment(files / "ideas" / "e.toml"), "task")
    assert [list(one.plugins)[-1] for one in made.values()] == ["myidea", "myidea"]


def test_the_file_of_the_documentation_trains(files: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "writing-a-plugin.md").read_text("utf-8")
    python, toml = (page.partition(f"```{language}\n")[2].partition("```")[0] for language in ("python", "toml"))
    (files / "ideas" / "my_idea.py").write_text(python)
    (files / "ideas" / "e.toml").write_text(f'name = "e"\nepochs = 1\nbatch_size = 2\ndevice = "cpu"\n{PLUGINS}{toml}')
    run = train(load_experiment(files / "ideas" / "e.toml"), files / "run")
    assert run.history()[-1]["smoothness/smooth"] > 0


def test_the_log_of_a_job_has_a_line_for_each_epoch(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = load_suite(files / "suites" / "s.toml", folder=tmp_path / "runs")
    assert Process(suite.jobs[0], threads=1)() is None
    assert capsys.readouterr().out.startswith("a: epoch 1/1  loss ")
