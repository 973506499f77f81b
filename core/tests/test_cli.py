"""What the command does with errors of the system, with colours in messages and with SIGTERM."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

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


def test_a_command_that_ends_well_leaves_its_process_group(tmp_path: Path) -> None:
    """An interpreter that exits while the group's threads run may abort, and torchrun reports a lost process."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "f"), 1), rank=0, world_size=1
    )
    with pytest.raises(SystemExit) as ended:
        cli.main(["plugins", "--json"])
    assert not ended.value.code
    assert not torch.distributed.is_initialized()
