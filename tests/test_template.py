"""A template is code: it is generated, linted, and keeps its contract."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from copier import run_copy

ROOT = Path(__file__).parent.parent
TEMPLATE = str(ROOT / "templates" / "regularizer")
ANSWERS = {"name": "total-variation", "summary": 'Say "smooth" to 100 % of <maps> ö', "author": 'Ann "A" O\'Hara'}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    run_copy(TEMPLATE, folder, data=ANSWERS, defaults=True, quiet=True)
    return folder / "mtl-total-variation"


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    source = str(cwd / "src")
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_what_it_generates_keeps_its_contract(generated: Path) -> None:
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=generated)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_what_it_generates_is_clean(generated: Path) -> None:
    done = run(sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), ".", cwd=generated)
    assert done.returncode == 0, done.stdout
    done = run(
        sys.executable, "-m", "ruff", "format", "--check", "--config", str(ROOT / "pyproject.toml"), ".", cwd=generated
    )
    assert done.returncode == 0, done.stdout


def test_it_builds_and_names_its_plugin(generated: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    done = run(*command, cwd=generated)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mtl_total_variation-0.1.0-py3-none-any.whl"]
    project = tomllib.loads((generated / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["mtl.plugins"] == {"total-variation": "mtl_total_variation:TotalVariation"}
    assert project["description"] == ANSWERS["summary"]
    assert project["authors"] == [{"name": ANSWERS["author"]}]


@pytest.mark.parametrize(
    "answers",
    [
        *({"name": name} for name in ("3d-smooth", "-x", "x-", "x--y", "X", "x_y", "ä", "", "none")),
        *({"name": "x", "summary": text} for text in ("", "a\\d", 'a"""d', "two\nlines")),
    ],
    ids=str,
)
def test_answers_that_would_make_no_package_are_refused(tmp_path: Path, answers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="Validation error for question"):
        run_copy(TEMPLATE, tmp_path, data=answers, defaults=True, quiet=True, pretend=True)


def test_the_last_message_gives_paths_from_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_copy(TEMPLATE, "my plugin", data={"name": "smooth-3d"}, defaults=True, pretend=True)
    assert 'pip install -e "my plugin/mtl-smooth-3d"' in capsys.readouterr().err
