"""What cannot be started is refused by the command in one line, before anything is started or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core.cli import main
from mtl_core.testing.distributions import Install

EXPERIMENT = """
name = "x"
epochs = 1
batch_size = 2
device = "cpu"
[plugins.data]
[plugins.labels]
[plugins.network]
"""


@pytest.fixture
def file(tmp_path: Path, install: Install) -> Path:
    parts = {"data": "ToyData", "labels": "ToyLabels", "network": "ToyNetwork"}
    source = "from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork\n"
    install("mtl-fake", {name: f"fake_launching:{cls}" for name, cls in parts.items()}, source)
    path = tmp_path / "x.toml"
    path.write_text(EXPERIMENT)
    return path


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
    file: Path, setting: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for command in (["train", str(file), "--out", str(file.parent / "run"), "--quiet"],):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--set", setting])
        shown = capsys.readouterr().err
        assert ended.value.code == 2
        assert expected in shown
        assert len(shown.strip().splitlines()) <= 2  # the second names the experiment's file
    assert not (file.parent / "run").exists()
