"""Each distribution's tests, from its wheel, in an environment that has nothing undeclared.

An empty environment gets mtl-core's wheel and that of one plugin. From the environment that runs this script it is
linked to torch, torchvision, pytest and hypothesis, to what the two wheels declare with their extra ``test``, and to
the requirements of all these; nothing is downloaded. What the test tools need themselves (pluggy, attrs …) would hide a
missing declaration, so imports are also compared with the declarations.
So is a plugin of every kind that ``mtl new`` makes (``templates`` for these alone), linted too. At last the wheels of
:data:`TOGETHER` are installed beside each other and train JTR and IAL from the command line (``together``).
Usage: ``python tests/wheels.py [DISTRIBUTION | templates | together ...]``.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata as metadata
import os
import shutil
import subprocess
import sys
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "wheels"
CORE = "mtl-core"
ALWAYS = ("torch", "torchvision", "pytest", "hypothesis")
PIP = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet")


TOGETHER = ("mtl-core", "mtl-nn", "mtl-data", "mtl-scenes", "mtl-labels", "mtl-backbones", "mtl-jtr", "mtl-ial")
EXPERIMENT = """
name = "wheels"
epochs = 1
batch_size = 2
device = "cpu"

[plugins.scenes]
size = [32, 32]
train = 4
test = 2
[plugins.onelabel]
[plugins.segnet]
width = 4
[plugins.jtr]
[plugins.ial]
primary = "segmentation"
"""


class Failure(Exception):
    """One distribution that does not pass, with what a reader needs to see."""


@functools.cache
def projects() -> dict[str, Path]:
    """Every distribution of the repository: name → folder, core first."""
    files = [ROOT / "core" / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    files += sorted(ROOT.glob("contrib/*/pyproject.toml"))
    found = {tomllib.loads(file.read_text("utf-8"))["project"]["name"]: file.parent for file in files}
    del found["mtl-all"]  # a list of the others, without code or tests
    return found


def run(command: Iterable[str | Path], what: str, **options: object) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    data = os.environ.get("MTL_DATA", str(ROOT.parent / "shared" / "data"))
    environment = clean | {"MTL_DATA": data, "MTL_CACHE": str(BUILD / "cache")}
    ended = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env=environment, **options
    )
    if ended.returncode:
        raise Failure(f"{what} (exit code {ended.returncode})\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def build(name: str, folder: Path) -> Path:
    target = BUILD / "dist" / name
    shutil.rmtree(target, ignore_errors=True)
    run(
        [*PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", target, folder],
        "its wheel is not built",
    )
    return next(target.glob("*.whl"))


def requirements(wheel: Path) -> list[Requirement]:
    """What a wheel declares, extras included."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    return [Requirement(line) for line in lines]


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """The distributions that these requirements lead to in the environment that runs this script."""
    seen: dict[str, set[str]] = {}
    queue = list(wanted)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        if extras <= seen.get(name, set()) or name in projects():
            continue
        seen[name] = seen.get(name, set()) | extras
        lines = map(Requirement, installed(name).requires or ())
        queue += [
            line for line in lines if line.marker is None or any(line.marker.evaluate({"extra": e}) for e in extras)
        ]
    return set(seen)


def asked(wheel: Path, extras: set[str]) -> list[Requirement]:
    """What a wheel asks for with these extras; an extra may name others of the same distribution."""
    lines = requirements(wheel)
    while True:
        found = [r for r in lines if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
        own = [r for r in found if canonicalize_name(r.name) == canonicalize_name(wheel.name.partition("-")[0])]
        more = extras.union(*(r.extras for r in own))
        if more == extras:
            return [r for r in found if r not in own]
        extras = more


def installed(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise Failure(f"it needs {name}, which is not in {sys.prefix}; run `make setup`") from None


def link(names: Iterable[str], site: Path) -> None:
    """Put links to distributions into an environment's site-packages."""
    for name in names:
        dist = installed(name)
        for top in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
            place = site / top
            source = Path(str(dist.locate_file(top)))
            if not place.exists() and source.exists():
                place.symlink_to(source.resolve())


def imported(wheel: Path) -> Iterator[tuple[str, str]]:
    """(file in the wheel, top-level module that it imports)."""
    with zipfile.ZipFile(wheel) as archive:
        for file in (n for n in archive.namelist() if n.endswith(".py")):
            for node in ast.walk(ast.parse(archive.read(file))):
                if isinstance(node, ast.Import):
                    yield from ((file, alias.name.partition(".")[0]) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    yield file, str(node.module).partition(".")[0]


ABSENT = {"mlflow-skinny": "mlflow"}
"""Distributions that need not be installed here → the module that they have, where it has another name."""


def undeclared(wheel: Path) -> list[str]:
    """Imports of a wheel that its metadata does not declare, a line for each."""
    declared = {canonicalize_name(r.name) for r in requirements(wheel)}
    own = wheel.name.partition("-")[0]
    owners = metadata.packages_distributions()
    known = {m for m, dists in owners.items() if declared & {canonicalize_name(d) for d in dists}}
    known |= {name.replace("-", "_") for name in declared}  # an editable install has no list of its modules
    known |= {module for name, module in ABSENT.items() if name in declared}
    allowed = known | sys.stdlib_module_names | {own}
    return sorted(
        {f"{file} imports {module}, which is not declared" for file, module in imported(wheel) if module not in allowed}
    )


def is_library(folder: Path) -> bool:
    """Whether a distribution has no plugin: core, and what plugins share."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    return "mtl.plugins" not in project.get("entry-points", {})


def ours(wheel: Path) -> set[str]:
    """The distributions of this repository that a wheel declares."""
    return {canonicalize_name(r.name) for r in requirements(wheel)} & set(projects())


def needed(name: str, wheels: dict[str, Path | Failure]) -> list[str]:
    """A distribution behind those of this repository that it needs."""
    wheel = wheels[name]
    order = list[str]()
    for other in sorted(ours(wheel) - {name}) if isinstance(wheel, Path) else ():
        order += [n for n in needed(other, wheels) if n not in order]
    return [*order, name]


def foreign(name: str, wheel: Path) -> list[str]:
    """Other plugins that a distribution declares: a plugin stands on core and on libraries alone."""
    others = {other for other in ours(wheel) - {name} if not is_library(projects()[other])}
    return [f"it depends on another plugin, {other}" for other in sorted(others)]


def environment(
    name: str, wheels: list[Path], extras: Iterable[str] = ("", "test"), tools: Iterable[str] = ALWAYS
) -> Path:
    """A fresh environment with these wheels; its interpreter.

    :param extras: of the wheels, whose requirements are linked; the empty one for those without an extra
    :param tools: further distributions
    """
    folder = BUILD / "environments" / name
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = next(folder.glob("lib/python3.*/site-packages"))
    wanted = [*map(Requirement, tools), *(r for wheel in wheels for r in asked(wheel, set(extras)))]
    link(closure(wanted), site)
    run([*PIP, "--python", python, "install", "--no-index", "--no-deps", *wheels], "its wheel cannot be installed")
    return python


def test(name: str, folder: Path, wheels: list[Path]) -> str:
    """Run one distribution's tests; pytest's last line."""
    problems = [*foreign(name, wheels[-1]), *undeclared(wheels[-1])]
    if problems:
        raise Failure("\n".join(problems))
    python = environment(name, wheels)
    tests = python.parents[1] / "tests"
    if not (folder / "tests").is_dir():
        raise Failure("it has no tests")
    shutil.copytree(folder / "tests", tests, ignore=shutil.ignore_patterns("__pycache__"))
    (tests / "pytest.ini").write_text(pytest_ini(), "utf-8")
    out = run([python, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", "."], "its tests fail", cwd=tests)
    return out.strip().splitlines()[-1].strip("= ")


def pytest_ini() -> str:
    """The repository's settings, less those of plugins that are not in the environment."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    lists = {key: "".join(f"\n    {line}" for line in options[key]) for key in ("addopts", "markers", "filterwarnings")}
    return "[pytest]\n" + "".join(f"{key} ={value}\n" for key, value in lists.items())


def generated(wheels: dict[str, Path | Failure]) -> list[bool]:
    """A plugin of every kind, as ``mtl new`` makes it: linted, its tests and its training, beside core's wheel."""
    from mtl_new import KINDS, create

    folder = BUILD / "templates"
    shutil.rmtree(folder, ignore_errors=True)
    passed = []
    for kind in KINDS:
        name = f"mtl-made-{kind}"
        made = create(kind, name.removeprefix("mtl-"), folder)
        try:
            ruff = [sys.executable, "-m", "ruff"]
            run([*ruff, "check", "--config", ROOT / "pyproject.toml", made], f"{name}: ruff has complaints")
            run([*ruff, "format", "--check", "--config", ROOT / "pyproject.toml", made], f"{name}: is not formatted")
        except Failure as failure:
            print(f"{name}: FAILED {failure}", flush=True)
            passed.append(False)
            continue
        passed.append(attempt(name, made, {CORE: wheels[CORE], name: built(name, made)}))
    return passed


def together(wheels: dict[str, Path | Failure]) -> bool:
    """Train an experiment from nothing but wheels, as a user does."""
    start = time.monotonic()
    try:
        for name in TOGETHER:
            if isinstance(wheel := wheels[name], Failure):
                raise wheel
        chosen = [wheel for name in TOGETHER if isinstance(wheel := wheels[name], Path)]
        python = environment("together", chosen, extras={""}, tools=())
        folder = python.parents[1]
        (folder / "experiment.toml").write_text(EXPERIMENT, "utf-8")
        command = [python.with_name("mtl"), "train", "experiment.toml", "--out", "run", "--quiet"]
        run(command, "JTR and IAL do not train from wheels", cwd=folder)
        if not (folder / "run" / "results.json").is_file():
            raise Failure("JTR and IAL trained, but there is no results.json")
    except Failure as failure:
        print(f"together: FAILED {failure}", flush=True)
        return False
    print(f"together: JTR and IAL train from {len(chosen)} wheels ({time.monotonic() - start:.0f} s)", flush=True)
    return True


def attempt(name: str, folder: Path, wheels: dict[str, Path | Failure]) -> bool:
    start = time.monotonic()
    chosen = [wheels[other] for other in needed(name, wheels)]
    try:
        for wheel in chosen:
            if isinstance(wheel, Failure):
                raise wheel
        line = test(name, folder, [wheel for wheel in chosen if isinstance(wheel, Path)])
    except Failure as failure:
        print(f"{name}: FAILED {failure}", flush=True)
        return False
    print(f"{name}: passed ({line}; {time.monotonic() - start:.0f} s with installing)", flush=True)
    return True


def built(name: str, folder: Path) -> Path | Failure:
    try:
        return build(name, folder)
    except Failure as failure:
        return failure


def main(names: list[str]) -> int:
    every = projects()
    unknown = set(names) - {*every, "together", "templates"}
    if unknown:
        print(f"no such distribution: {', '.join(sorted(unknown))} (there are: {', '.join(every)})")
        return 2
    chosen = {name: folder for name, folder in every.items() if name in (names or every)}
    with ThreadPoolExecutor(2) as pool:
        wheels = dict(zip(every, pool.map(built, every, every.values()), strict=True))
        passed = list(pool.map(lambda name: attempt(name, every[name], wheels), chosen))
    if not names or "templates" in names:
        passed += generated(wheels)
    if not names or "together" in names:
        passed.append(together(wheels))
    counts = [f"{sum(passed)} passed", *([f"{passed.count(False)} failed"] if not all(passed) else [])]
    print(f"===== {', '.join(counts)} =====")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
