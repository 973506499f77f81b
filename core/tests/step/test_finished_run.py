"""What a hook that is called after a run is promised."""

from __future__ import annotations

import inspect
import typing

from mtl_core.commands.finished_run import EndedRun
from mtl_core.step.finished_run import Drawings, Examples, FinishedRun
from mtl_core.testing import make_batch, make_tasks


def test_examples_have_no_names_unless_the_data_have_some() -> None:
    batch = make_batch(make_tasks())
    assert Examples(batch, {}).names == ()
    assert Examples(batch, {}, ["a"]).names == ["a"]
    assert Drawings(batch, {"jtr": {}}).maps == {"jtr": {}}


def test_the_run_that_commands_make_has_all_that_is_promised() -> None:
    promised = {name for name, value in vars(FinishedRun).items() if inspect.isfunction(value) and name[0] != "_"}
    assert {"examples", "extremes", "drawings"} <= promised
    for name in promised:
        own, spec = (list(inspect.signature(getattr(cls, name)).parameters) for cls in (EndedRun, FinishedRun))
        assert own == spec, name
    fields = set(typing.get_type_hints(FinishedRun))
    there = set(dir(EndedRun)) | set(inspect.signature(EndedRun).parameters)
    assert not {name for name in fields if name[0] != "_"} - there
