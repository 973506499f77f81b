"""Tasks in checkpoints are data: nothing that a checkpoint names is imported or called."""

from __future__ import annotations

import attrs
import pytest

from mtl_core import CheckpointError, Depth, Segmentation, Task, Tasks
from mtl_core.testing import EXAMPLES
from mtl_core.training.saved_tasks import tasks_from_plain, tasks_to_plain


def test_every_kind_comes_back_as_it_was() -> None:
    tasks = Tasks([*EXAMPLES.values(), Depth(name="disparity", disparity=True)])
    assert list(tasks_from_plain(tasks_to_plain(tasks), "x.ckpt")) == list(tasks)


@pytest.mark.parametrize("kind", ["os:system", "subprocess:run", "mtl_core.tasks.depth:Depth", "", None, 7, ["depth"]])
def test_other_kinds_are_refused(kind: object, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr("os.system", called.append)
    row = {"kind": kind, "name": "a", "channels": 1, "command": "touch here"}
    with pytest.raises(CheckpointError, match="which no installed plugin registers"):
        tasks_from_plain([row], "x.ckpt")
    assert called == []


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "depth", "name": "../../etc/passwd", "channels": 1},
        {"kind": "depth", "name": "a/b", "channels": 1},
        {"kind": "depth", "name": "depth", "channels": 0},
        {"kind": "depth", "name": "depth", "channels": "1"},
        {"kind": "depth", "name": 3, "channels": 1},
        {"kind": "depth", "name": "depth", "channels": 1, "unknown": 1},
        {"kind": "depth"},
    ],
)
def test_options_are_checked(row: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"x\.ckpt"):
        tasks_from_plain([row], "x.ckpt")


@pytest.mark.parametrize("rows", [None, [], {}, "depth", [1], [None]])
def test_rows_that_are_none(rows: object) -> None:
    with pytest.raises(CheckpointError, match=r"x\.ckpt: holds no tasks"):
        tasks_from_plain(rows, "x.ckpt")


def test_a_kind_that_this_program_defines_is_found() -> None:
    @attrs.frozen(kw_only=True)
    class Mine(Segmentation):
        smoothing: float = 0.1

    tasks = Tasks([Mine(name="mine", channels=3, smoothing=0.2)])
    (found,) = tasks_from_plain(tasks_to_plain(tasks), "x.ckpt")
    assert isinstance(found, Task)
    assert found == tasks["mine"]
