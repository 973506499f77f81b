"""The mean over twenty domains, of runs and of sets of runs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from mtl_cifar100.__main__ import main
from mtl_cifar100.domains import DOMAINS
from mtl_cifar100.table import rows
from mtl_core import CheckpointError


def write(folder: Path, name: str, seed: int, values: dict[str, float], counts_for: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    metrics = {f"{domain}/top1": value for domain, value in values.items()}
    record = {"name": name, "seed": seed, "split": "test", "metrics": metrics, "counts_for": list(counts_for)}
    (folder / "results.json").write_text(json.dumps(record), "utf-8")
    return folder


def values(first: float) -> dict[str, float]:
    return {domain: first + number for number, domain in enumerate(DOMAINS)}


def test_the_mean_is_over_all_twenty_domains(tmp_path):
    (row,) = rows([write(tmp_path / "run", "uniform", 0, values(50.0))])
    assert row.mean == (pytest.approx(59.5), None)
    assert row.domain("people") == (64.0, None)


def test_seeds_of_one_name_are_one_row(tmp_path):
    folders = [write(tmp_path / str(seed), "uniform", seed, values(first)) for seed, first in ((1, 52.0), (0, 48.0))]
    (row,) = rows(folders)
    assert row.mean == (pytest.approx(59.5), pytest.approx(statistics.stdev([57.5, 61.5])))


def test_parts_of_a_set_are_put_together_each_with_its_own_domain(tmp_path):
    for number, domain in enumerate(DOMAINS):
        write(tmp_path / "set" / domain, "ial", 0, values(10.0 * number), (domain,))
    (row,) = rows([tmp_path / "set"])
    assert row.mean == (pytest.approx(statistics.fmean(11.0 * k for k in range(20))), None)


def test_a_set_that_is_not_finished_has_no_mean(tmp_path, capsys):
    for domain in DOMAINS[:3]:
        write(tmp_path / "set" / domain, "ial", 0, {domain: 50.0}, (domain,))
    assert main([str(tmp_path / "set"), "--all"]) == 0
    assert "3 of 20" in capsys.readouterr().out


def test_the_table_has_the_papers_columns(tmp_path, capsys):
    assert main([str(write(tmp_path / "run", "uniform", 0, values(50.0)))]) == 0
    shown = capsys.readouterr().out
    assert [name for name in DOMAINS if f" {name} " in shown] == [
        "aquatic_mammals", "people", "reptiles", "small_mammals", "trees",
    ]  # fmt: skip
    assert "59.50" in shown


def test_json(tmp_path, capsys):
    assert main([str(write(tmp_path / "run", "uniform", 0, values(50.0))), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["mean"], row["domains"]["fish"]) == ("uniform", [59.5, None], [51.0, None])


def test_no_run_is_a_message(tmp_path, capsys):
    (tmp_path / "results.json").write_text('{"metrics": {"depth/rmse": 1.0}}', "utf-8")
    assert main([str(tmp_path)]) == 2
    assert "no finished run of CIFAR-100's domains" in capsys.readouterr().err


def test_a_run_given_twice_is_a_message(tmp_path):
    write(tmp_path / "a", "uniform", 0, values(50.0))
    write(tmp_path / "b", "uniform", 0, values(50.0))
    with pytest.raises(CheckpointError, match=r'a second result of .* for "uniform", seed 0'):
        rows([tmp_path])


def test_it_needs_no_torch():
    code = "import sys; import mtl_cifar100.__main__; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
