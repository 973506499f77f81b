"""A template is code: it is generated, linted, and keeps its contract."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from copier import run_copy

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    run_copy(
        str(ROOT / "templates" / "regularizer"), folder, data={"name": "total-variation"}, defaults=True, quiet=True
    )
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
    text = (generated / "pyproject.toml").read_text()
    assert 'total-variation = "mtl_total_variation:TotalVariation"' in text
