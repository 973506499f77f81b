"""A run folder whose files were damaged: one message each, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_core import CheckpointError, RunFolder, write_text

GOOD = '{"epoch": 0, "seconds": 1.0}\n'


@pytest.mark.parametrize(
    "damaged",
    [
        '{"epoch": 1, "sec\n',
        "[1, 2]\n",
        "7\n",
        '{"seconds": 1.0}\n',
        '{"epoch": "1", "seconds": 1.0}\n',
        '{"epoch": 1, "seconds": "1"}\n',
        '{"epoch": 1, "step": null}\n',
        '{"epoch": 1, "step": "2", "seconds": 1.0}\n',
        '{"epoch": 1, "seconds": 1.0, "skipped_steps": [1]}\n',
        "[" * 100_000 + "\n",
        '{"epoch": ' + "9" * 5000 + "}\n",
    ],
)
def test_damaged_metrics_name_file_and_line(tmp_path: Path, damaged: str) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_text(GOOD + damaged + GOOD, "utf-8")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl:2: "):
        run.history()


def test_metrics_that_are_no_text(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(CheckpointError, match="not a text file"):
        run.history()


def test_blank_lines_and_a_half_written_last_one_are_passed_over(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_text(GOOD + "\n" + "\0\0\n" + GOOD + '{"epoch": 1, "se', "utf-8")
    assert len(run.history()) == 2


def test_a_file_that_cannot_be_written_is_named_as_its_reader_knows_it(tmp_path: Path) -> None:
    (tmp_path / "results.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "results.json", "{}")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "results.json"), None)
    assert list(tmp_path.iterdir()) == [tmp_path / "results.json"]
