"""What Δ% refers to: the suite's reference, another scenario's row of it, or another experiment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtl_core import RunFolder
from mtl_core.testing import main
from mtl_suite.plan import Suite, load_suite
from mtl_suite.results import collect, to_json
from mtl_suite.tables import html, latex

SUITE = """
name = "tiny"
reference = "supervised"
[defaults]
epochs = 1
[defaults.plugins.scenes]
[defaults.plugins.segnet]
[scenarios.one]
title = "one label"
plugins.onelabel = {}
[scenarios.more]
title = "one label, more images"
reference = "one"
plugins.onelabel = {}
[experiments.supervised]
title = "Supervised MTL"
[experiments.other]
title = "Other"
only = ["one"]
"""
ERRORS = {("supervised", "one"): 1.0, ("supervised", "more"): 1.1, ("other", "one"): 0.5}


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (tmp_path / "suite.toml").write_text(SUITE)
    found = load_suite(tmp_path / "suite.toml", folder=tmp_path / "runs")
    for job in found.jobs:
        job.folder.mkdir(parents=True)
        (job.folder / "experiment.toml").write_text(job.text)
        results = {
            "name": job.row, "seed": 0, "split": "test", "checkpoint": "last", "epoch": 1,
            "metrics": {"depth/abs_err": ERRORS[job.row, job.scenario]}, "headline": {"depth/abs_err": False},
        }  # fmt: skip
        (job.folder / "results.json").write_text(json.dumps(results))
        RunFolder(job.folder).append({"epoch": 0})
    return found


def deltas(suite: Suite) -> dict[str, dict[str, float]]:
    return {
        s.title: {x.title: x.row.delta[0] for x in s.lines if x.row and x.has_delta} for s in collect(suite).sections
    }


def test_a_scenario_may_refer_to_the_row_of_another(suite: Suite) -> None:
    assert deltas(suite) == {
        "one label": {"Supervised MTL": 0.0, "Other": pytest.approx(50)},
        "one label, more images": {"Supervised MTL": pytest.approx(-10)},
    }


def test_the_table_says_what_a_section_refers_to(suite: Suite) -> None:
    table = collect(suite)
    heading = "one label, more images (Δ% against Supervised MTL, one label)"
    assert heading in html(table)
    assert heading.replace("Δ%", r"$\Delta$\%") in latex(table)
    assert [s["reference"] for s in json.loads(to_json(table))["sections"]] == [
        "Supervised MTL",
        "Supervised MTL, one label",
    ]


def test_the_scenario_keeps_its_reference_to_itself(suite: Suite) -> None:
    assert all("reference" not in job.text for job in suite.jobs)


def test_another_reference(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["suite", str(suite.source), "--out", str(suite.folder), "--table", "--json", "--reference"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "other"])
    assert stop.value.code == 0
    one, more = json.loads(capsys.readouterr().out)["sections"]
    assert [row["delta_percent"][0] for row in one["rows"]] == [-100, 0]
    assert [row["delta_percent"][0] for row in more["rows"]] == [pytest.approx(-120)]
    assert "Δ% against Other" in (suite.folder / "table.txt").read_text()
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "othr"])
    assert stop.value.code == 2
    assert '--reference: no experiment "othr" in the suite; did you mean "other"?' in capsys.readouterr().err


def test_the_paper_refers_depth_extended_to_onelabel() -> None:
    """JTR, Tab. 1: Supervised MTL with the further images has −10.73, the change against Supervised MTL of onelabel."""
    before = (25.75, 0.6511, 33.73)
    after = (23.43, 0.6918, 39.44)
    changes = [100 * (b - a) / a for a, b in zip(before, after, strict=True)]
    assert (changes[0] - changes[1] - changes[2]) / 3 == pytest.approx(-10.73, abs=0.005)
    root = Path(__file__).parent.parent / "docs" / "examples" / "suites"
    for path in (root / "jtr-tab1.toml", root / "small" / "jtr-tab1.toml"):
        assert load_suite(path, folder=Path("nowhere")).scenarios["depth-extended"].reference == "onelabel"
