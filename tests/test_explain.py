"""`mtl explain`: every plugin that computes something says what, from where, at what cost, and where it departs."""

from __future__ import annotations

import json

import pytest

from mtl_core import discovery
from mtl_core.commands.explain import explain
from mtl_core.testing import main

METHODS = {"combine_losses", "compute_regularizer", "shape_encoder_gradient"}
INSTALLED = sorted(f.name for f in discovery.installed_plugins())


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.mark.parametrize("name", INSTALLED)
def test_every_plugin_explains_itself(name: str) -> None:
    record = explain(name)
    assert record["summary"]
    assert all(option["help"] for option in record["options"]), "every option has its line"
    if METHODS & set(record["hooks"]):
        assert record["about"] is not None, f"{name}: a method has `about = About(...)`"
        assert all(record["about"].values())


def test_as_a_page_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, page, _ = shown(capsys, "explain", "ial")
    assert code == 0
    for part in ("formula", "source", "cost", "departs", "hooks", "combine_losses", "primary", "required", "0.1"):
        assert part in page
    _, text, _ = shown(capsys, "explain", "jtr", "--json")
    record = json.loads(text)
    assert {o["name"]: o["default"] for o in record["options"]}["c_dist"] == 4.0
    assert "Eq. 4 to 6" in record["about"]["source"]


def test_an_unknown_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = shown(capsys, "explain", "ila")
    assert code == 2
    assert 'did you mean "ial"?' in error
