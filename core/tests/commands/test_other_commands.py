"""Commands that other distributions add to ``mtl``."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mtl_core import cli
from mtl_core.commands import other_commands


def test_a_broken_command_of_another_distribution_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EntryPoint("broken", "no_such_module_anywhere:command", "mtl.commands")
    monkeypatch.setattr(other_commands, "entry_points", lambda group: [broken])
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    shown = capsys.readouterr()
    assert ended.value.code == 0
    assert "command broken" in shown.err
    assert "train" in shown.out


GROUPS = """
import typer
one, two = typer.Typer(help="Groups."), typer.Typer()
@one.command()
def look() -> None:
    "Of the first."
@two.command("look")
def look_again() -> None:
    "Of the second."
@two.command()
def write() -> None:
    "Of the second too."
"""


def test_distributions_share_a_group_and_a_name_that_is_taken_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shared_groups.py").write_text(GROUPS, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    entries = [EntryPoint("photos", f"shared_groups:{name}", "mtl.commands") for name in ("two", "one")]
    monkeypatch.setattr(other_commands, "entry_points", lambda group: entries)
    monkeypatch.setattr(cli, "app", typer.Typer(callback=lambda: None))
    for _ in range(2):  # joining twice changes nothing
        cli.app.registered_groups.clear()
        cli.join_commands()
        shown = CliRunner().invoke(cli.app, ["photos", "--help"]).output
        assert [line for line in ("Of the first.", "Of the second.", "Of the second too.") if line in shown] == [
            "Of the first.",
            "Of the second too.",
        ]
        assert capsys.readouterr().err == (
            "mtl: command photos of ? has look, which another distribution has too; uninstall one of the two\n"
        )
