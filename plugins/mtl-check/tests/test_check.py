"""The commands: what is right passes, every fault is one line, the exit code says it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mtl_check import check_plugin
from mtl_check.commands import check, doctor
from mtl_check.findings import Findings
from mtl_core import ContractError, MtlError, hookimpl, plugin
from mtl_core.testing import ToyLabels

PLAIN = '''
import torch
from attrs import field
from mtl_core import MtlError, hookimpl, plugin, help


@plugin
class Idea:
    """Pulls predictions towards zero."""

    weight: float = field(default=0.1, metadata=help("coefficient"))

    @hookimpl
    def setup(self, tasks):
        {setup}

    @hookimpl
    def compute_regularizer(self, step):
        term = torch.stack([p.float().square().mean() for p in step.predictions.values()]).sum()
        {inside}
        return {{"pull": self.weight * term}}
'''


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def write(folder: Path, inside: str = "pass", setup: str = "pass") -> Path:
    path = folder / "idea.py"
    path.write_text(PLAIN.format(inside=inside, setup=setup))
    return path


def run(runner: CliRunner, command: Any, *arguments: object) -> Result:
    import typer

    app = typer.Typer()
    app.command()(command)
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_what_is_right_passes_and_trains(runner: CliRunner, tmp_path: Path) -> None:
    done = run(runner, check, write(tmp_path), "--set", "weight=0.5")
    assert done.exit_code == 0, done.output
    assert "checks passed" in done.output
    assert "✗" not in done.output


def test_a_fault_is_one_line_for_all_the_checks_that_found_it(runner: CliRunner, tmp_path: Path) -> None:
    done = run(runner, check, write(tmp_path, "self.last = term"), "--no-train")
    assert done.exit_code == 1
    assert done.output.count("✗") == 1
    assert "keeps the graph alive: last" in done.output
    assert "keeps_no_graph of compute_regularizer (K = 2, K = 3, K = 5, two views)" in done.output
    assert "1 fault" in done.output


def test_json_has_the_same(runner: CliRunner, tmp_path: Path) -> None:
    done = run(runner, check, write(tmp_path, "term.item()"), "--no-train", "--json")
    (message,) = json.loads(done.output)["failed"]
    assert "read on the host" in message


def test_a_refusal_is_no_fault(runner: CliRunner, tmp_path: Path) -> None:
    refuse = 'if len(tasks) > 2: raise MtlError("idea: expected two tasks")'
    done = run(runner, check, write(tmp_path, setup=refuse), "--no-train")
    assert done.exit_code == 0
    assert "refused: idea: expected two tasks\n    tried: compute_regularizer (K = 3, K = 5" in done.output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-plugin", "there is no plugin"),
        ("no.py", "there is no such file"),
        ("{file}:Nothing", "no plugin class"),
    ],
)
def test_what_is_not_there_is_said(runner: CliRunner, tmp_path: Path, name: str, message: str) -> None:
    done = run(runner, check, name.format(file=write(tmp_path)))
    assert isinstance(done.exception, MtlError)
    assert message in str(done.exception)


@pytest.mark.parametrize(("option", "message"), [("wait=1", 'did you mean "weight"'), ("weight=much", "weight")])
def test_options_are_checked(runner: CliRunner, tmp_path: Path, option: str, message: str) -> None:
    done = run(runner, check, write(tmp_path), "--set", option)
    assert isinstance(done.exception, MtlError)
    assert message in str(done.exception)


def test_a_run_that_does_not_resume_is_found() -> None:
    @plugin
    class Counting:
        """Draws other images in every run."""

        @hookimpl
        def augment(self, images: Any) -> Any:
            COUNT.append(1)
            return images * (1 / len(COUNT))

    sys.modules[__name__].COUNT = []  # type: ignore[attr-defined]
    found = Findings()
    from mtl_check.plugin import _check_runs

    _check_runs(found, Counting())
    assert any("a resumed run ends otherwise" in message for message in found.causes), found.causes


COUNT: list[int] = []


def test_installed_plugins_pass() -> None:
    found = check_plugin(ToyLabels(), trained=False)
    assert list(found.causes) == ["random = True, masks of 8 seeds differ: False"]


def test_causes_are_grouped_whatever_numbers_they_have() -> None:
    found = Findings()
    for number in (3, 5):
        found.fail("a check", f"K = {number}", AssertionError(f"expected {number} values"))
    found.fail("another", "", ValueError("expected 7 values"))
    assert found.causes == {
        "expected 3 values": {"a check": ["K = 3", "K = 5"]},
        "ValueError: expected 7 values": {"another": []},
    }


def test_a_broken_promise_is_no_refusal() -> None:
    def raises() -> None:
        raise ContractError("wrong")

    found = Findings()
    found.run("a", "", raises)
    assert found.failed
    assert not found.refused


def test_the_doctor_trains_and_names_what_is_stale(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    info = tmp_path / "site" / "mtl_gone-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mtl-gone\nVersion: 1.0\nRequires-Dist: nothing-like-it\n"
    )
    (info / "entry_points.txt").write_text("[mtl.plugins]\ngone = mtl_gone:Gone\n[mtl.tasks]\ngone = mtl_gone:Kind\n")
    monkeypatch.syspath_prepend(str(info.parent))
    done = run(runner, doctor)
    assert done.exit_code == 1
    assert "a training of two steps: ends with a loss of" in done.output
    assert 'plugin "gone": broken' in done.output
    assert "mtl.tasks gone: mtl_gone:Kind cannot be imported" in done.output
    assert "mtl-gone needs nothing-like-it, which is not installed" in done.output


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mtl_check import doctor as module

    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1024**2})())
    assert "free some space" in module._disk(tmp_path).remedy


@pytest.mark.parametrize("text", [None, ""])
def test_the_doctor_goes_on_where_a_distribution_is_half_installed(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtl_check import doctor as module

    info = tmp_path / "mtl_half-1.0.dist-info"
    info.mkdir()
    if text is not None:
        (info / "METADATA").write_text(text)
    (info / "entry_points.txt").write_text("[mtl.plugins]\nhalf = mtl_half:Half\n[mtl.tasks]\nhalf = mtl_half:Kind\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "check_all", lambda found: [one for one in found if one.name == "half"])
    shown = [
        str(line) for line in (*module._requirements(), *module._twice(), *module._plugins(), *module._entry_points())
    ]
    assert any("only half installed, its metadata are incomplete" in line for line in shown)
    assert any("install its distribution again, or uninstall it" in line for line in shown)
