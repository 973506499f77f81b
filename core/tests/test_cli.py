"""The command's last line of defence: errors of the system, lost processes, commands of other distributions."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mtl_core import cli
from mtl_core.errors import MtlError


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "choose another folder"),
        (errno.ENOTDIR, "a file stands where a folder is expected"),
        (errno.EISDIR, "a folder stands where a file is expected"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.ELOOP, "leads to itself"),
    ],
)
def test_an_error_of_the_system_names_path_reason_and_remedy(
    number: int, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(arguments: object) -> None:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(cli, "join_commands", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert f"mtl: some/file: {os.strerror(number)}" in shown
    assert remedy in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid(s) 123) exited unexpectedly",
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234",
    ],
)
def test_a_lost_process_is_one_line(text: str) -> None:
    assert "was killed (out of memory?); mtl train goes on with --resume" in cli._lost_process(RuntimeError(text))
    assert cli._lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""


def test_torch_words_a_lost_worker_as_we_expect() -> None:
    from torch.utils.data import DataLoader

    class Ends:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> int:
            os._exit(1)

    with pytest.raises(RuntimeError) as error:
        list(DataLoader(Ends(), num_workers=1))  # type: ignore[arg-type]
    assert cli._lost_process(error.value)


def test_a_broken_command_of_another_distribution_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EntryPoint("broken", "no_such_module_anywhere:command", "mtl.commands")
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken])
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    shown = capsys.readouterr()
    assert ended.value.code == 0
    assert "command broken" in shown.err
    assert "train" in shown.out


def test_colours_of_other_libraries_do_not_reach_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str]) -> None:
        raise MtlError("\x1b[31mred\x1b[0m and \x1b[1;4mbold\x1b[0m")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(cli, "join_commands", lambda: None)
    with pytest.raises(SystemExit):
        cli.main([])
    assert capsys.readouterr().err == "mtl: red and bold\n"


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
    monkeypatch.setattr(cli, "entry_points", lambda group: entries)
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


TRAINING = """
import os, sys, time
from mtl_core import cli
cli.join_commands = lambda: None
def slow(arguments):
    open(sys.argv[1], "w").close()
    time.sleep(60)
cli.app = slow
cli.main([])
"""


def test_sigterm_ends_like_an_interrupt(tmp_path: Path) -> None:
    started = tmp_path / "started"
    process = subprocess.Popen([sys.executable, "-c", TRAINING, str(started)], stderr=subprocess.PIPE, text=True)
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 143
    assert shown == "mtl: stopped; mtl train goes on with --resume, mtl suite when it is started again\n"
