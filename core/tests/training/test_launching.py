"""What cannot be started is refused by the command in one line, before anything is started or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core.testing import command


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "nodes=2",
            "nodes = 2: no launcher has started processes on 2 machines; start the command",
        ),
        ("strategy=fsdp", 'strategy = "fsdp": splits the network over devices'),
        ("strategy=ddp_spawn", 'strategy = "ddp_spawn": its processes begin in the middle of the program'),
        ("strategy=ddp_fork", 'strategy = "ddp_fork": its processes begin in the middle of the program'),
        ("strategy=ddp_notebook", 'strategy = "ddp_notebook": its processes begin in the middle'),
        ("strategy=deepspeed", 'strategy = "deepspeed": splits the network'),
        ("strategy=single_xla", 'strategy = "single_xla": splits the network over devices, or needs others'),
        ("strategy=ddq", 'strategy = "ddq": there is no such strategy; did you mean "ddp"?'),
    ],
)
def test_it_is_refused_in_one_line(
    toy_file: Path, setting: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    run = toy_file.parent / "run"
    assert command("train", toy_file, "--out", run, "--quiet", "--set", setting) == 2
    shown = capsys.readouterr().err
    assert expected in shown
    assert len(shown.strip().splitlines()) <= 2  # the second names the experiment's file
    assert not run.exists()
