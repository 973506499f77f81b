"""A template is code: it is generated, linted, and keeps its contract."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from copier import run_copy

ROOT = Path(__file__).parent.parent
TEMPLATES = str(ROOT / "templates")
KINDS = yaml.safe_load((ROOT / "templates" / "copier.yml").read_text("utf-8"))["kind"]["choices"]
SUMMARY = 'Say "smooth" to 100 % of <maps> ö'
AUTHOR = 'Ann "A" O\'Hara'


def generate(folder: Path, kind: str, name: str, **answers: str) -> Path:
    run_copy(TEMPLATES, folder, {"kind": kind, "name": name, **answers}, defaults=True, quiet=True)
    return folder / f"mtl-{name}"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A distribution of every kind, beside each other."""
    folder = tmp_path_factory.mktemp("template")
    return {kind: generate(folder, kind, f"total-{kind}", summary=SUMMARY, author=AUTHOR) for kind in KINDS}


def run(*command: str | Path, sources: Iterable[Path] = ()) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(folder / "src") for folder in sources)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)], env=environment, capture_output=True, text=True, check=False
    )


def check_style(*folders: Path) -> None:
    for command in (["check"], ["format", "--diff"]):
        done = run("ruff", *command, "--config", ROOT / "pyproject.toml", *folders)
        assert done.returncode == 0, done.stdout


def test_there_is_a_folder_for_every_kind() -> None:
    folders = {path.name for path in (ROOT / "templates").iterdir() if path.is_dir()}
    assert folders == {*KINDS, "shared"}


@pytest.mark.slow
def test_what_they_generate_keeps_its_contract_and_trains(generated: dict[str, Path]) -> None:
    folders = generated.values()
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib")
    done = run("pytest", *options, *(folder / "tests" for folder in folders), sources=folders)
    assert done.returncode == 0, done.stdout + done.stderr
    for folder in folders:
        (tests,) = (folder / "tests").iterdir()
        assert "def test_it_trains(" in tests.read_text("utf-8")


def test_what_they_generate_is_clean(generated: dict[str, Path]) -> None:
    check_style(*generated.values())


@pytest.mark.parametrize("name", ["a", "another-rather-long-name"])
def test_other_names_are_clean_too(tmp_path: Path, name: str) -> None:
    check_style(*(generate(tmp_path / kind, kind, name) for kind in KINDS))


@pytest.mark.slow
def test_they_build_and_name_their_plugin(generated: dict[str, Path], tmp_path: Path) -> None:
    done = run("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, *generated.values())
    assert done.returncode == 0, done.stderr
    modules = {kind: f"mtl_total_{kind.replace('-', '_')}" for kind in KINDS}
    assert {p.name for p in tmp_path.iterdir()} == {f"{m}-0.1.0-py3-none-any.whl" for m in modules.values()}
    for kind, folder in generated.items():
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        classname = f"Total{kind.replace('-', ' ').title().replace(' ', '')}"
        named = {} if kind == "task-kind" else {"mtl.plugins": {f"total-{kind}": f"{modules[kind]}:{classname}"}}
        assert project.get("entry-points", {}) == named
        assert project["description"] == SUMMARY
        assert project["authors"] == [{"name": AUTHOR}]


@pytest.mark.parametrize(
    "answers",
    [
        *({"name": name} for name in ("3d-smooth", "-x", "x-", "x--y", "X", "x_y", "ä", "", "none", "step")),
        *({"name": "x", "summary": text} for text in ("", "a\\d", 'a"""d', "two\nlines", "x" * 101)),
    ],
    ids=str,
)
def test_answers_that_would_make_no_package_are_refused(tmp_path: Path, answers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="Validation error for question"):
        run_copy(TEMPLATES, tmp_path, {"kind": "regularizer", **answers}, defaults=True, quiet=True, pretend=True)


def test_the_last_message_gives_paths_from_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_copy(TEMPLATES, "my plugin", data={"kind": "loss-rule", "name": "smooth-3d"}, defaults=True, pretend=True)
    assert 'pip install -e "my plugin/mtl-smooth-3d"' in capsys.readouterr().err
