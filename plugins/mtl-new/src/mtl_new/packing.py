"""Make a distribution of a plugin in a plain file."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from mtl_core import MtlError, nearest
from mtl_new.creation import check_free, check_name, create

_PLACES = {
    "build_dataset": ("data-set", "DatasetContract"),
    "make_label_mask": ("label-scenario", "LabelMaskContract"),
    "build_backbone": ("backbone", "BackboneContract"),
    "combine_losses": ("loss-rule", "LossRuleContract"),
    "shape_encoder_gradient": ("gradient-shaper", "GradientShaperContract"),
    "compute_regularizer": ("regularizer", "RegularizerContract"),
    "augment": ("augmentation", "AugmentContract"),
}
"""Hook → the kind of a plugin that has it, and the contract that its test derives from."""
_TOYS = {"build_dataset": "ToyData", "make_label_mask": "ToyLabels", "build_backbone": "ToyNetwork"}
"""What a run needs, and what stands in for it where the plugin does not bring it."""
_IN_TEMPLATES = {"mtl_core", "torch", "attrs", "attr"}
"""Modules whose distributions every template requires."""

_README = """# {distribution}

{summary}. A plugin for mtl (`mtl-core`).

```toml
[plugins.{name}]
```

Tests: `pytest`.
"""
_TEST = '''"""The contracts of the plugin's hooks, and a run of two steps."""

from pathlib import Path

import pytest

{imports}

{classes}
def test_it_trains(tmp_path: Path) -> None:
    """Two steps of a whole run, in seconds."""
    plugins: dict[str, object] = {{{toys}}}
    plugins["{name}"] = {plugin}()
    run = train(Experiment(name="try", plugins=plugins, epochs=1, batch_size=4), tmp_path / "run")
    assert run.results.is_file()
'''
_CONTRACT = """
class Test{title}({contract}):
    @pytest.fixture
    def plugin(self) -> {plugin}:
        return {plugin}()

"""


def pack(
    path: Path,
    into: Path | str = ".",
    name: str | None = None,
    *,
    summary: str | None = None,
    author: str | None = None,
) -> Path:
    """Make ``into/mtl-NAME`` of a plain file with one class that is declared with ``@plugin``.

    The file is read and not run; it becomes the package as it is.

    :param name: the plugin's in experiment files; by default the class's, ``MyIdea`` → ``my-idea``
    :return: the distribution's folder
    :raises MtlError: the file or the name cannot be used, or something of that name is there; nothing is written then
    """
    source, plugin = _read(path)
    name = name or _hyphenated(plugin.name)
    folder = Path(into) / f"mtl-{name}"
    check_name(name)
    check_free(name, folder)
    hooks = _hooks_of(path, plugin)
    further = _requirements(path, source)
    with TemporaryDirectory() as scratch:
        said = summary or _first_line(plugin)
        made = create(_PLACES[hooks[0]][0], name, scratch, summary=said, author=author)
        _fill(made, name, plugin.name, source, hooks)
        _require(made / "pyproject.toml", name, plugin.name, further)
        Path(into).mkdir(parents=True, exist_ok=True)
        shutil.move(str(made), folder)
    return folder


def _read(path: Path) -> tuple[str, ast.ClassDef]:
    """The file's text, and its one plugin."""
    try:
        source = path.read_text("utf-8")
        tree = ast.parse(source)
    except FileNotFoundError:
        raise MtlError(f"{path}: there is no such file") from None
    except (SyntaxError, UnicodeDecodeError, IsADirectoryError) as error:
        raise MtlError(f"{path}: expected a Python file: {error}") from None
    found = [node for node in tree.body if isinstance(node, ast.ClassDef) and _marked(node, "plugin")]
    if len(found) != 1:
        names = ", ".join(node.name for node in found) or "none"
        raise MtlError(f"{path}: expected one class that is declared with @plugin, found {names}; one file, one plugin")
    return source, found[0]


def _marked(node: ast.ClassDef | ast.FunctionDef, name: str) -> bool:
    """Whether a definition has a decorator of a name, called or not."""
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        last = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if last == name:
            return True
    return False


def _hooks_of(path: Path, plugin: ast.ClassDef) -> list[str]:
    """The hooks of the class that a contract is about, in the order of a run."""
    methods = [node for node in plugin.body if isinstance(node, ast.FunctionDef) and _marked(node, "hookimpl")]
    names = [method.name for method in methods]
    found = [hook for hook in _PLACES if hook in names]
    if not found:
        has = f"has {', '.join(names)}" if names else "has no @hookimpl method"
        raise MtlError(f"{path}: {plugin.name} {has}; expected one of {', '.join(_PLACES)}")
    return found


def _requirements(path: Path, source: str) -> list[str]:
    """What the file imports beside core, torch and attrs, as requirements."""
    owners = metadata.packages_distributions()
    found = []
    for module in sorted(set(_imported(path, ast.parse(source))) - _IN_TEMPLATES - sys.stdlib_module_names):
        if module not in owners:
            beside = " beside it" if (path.parent / f"{module}.py").exists() else ""
            raise MtlError(
                f"{path}: imports {module}{beside}, which is no installed distribution{nearest(module, owners)}; put it"
                " into this file, or install it"
            )
        owner = owners[module][0]
        found.append(f"{owner}>={'.'.join(metadata.version(owner).split('+')[0].split('.')[:2])}")
    return found


def _imported(path: Path, tree: ast.Module) -> Iterator[str]:
    """Top-level modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise MtlError(f"{path}: line {node.lineno} imports from a folder around it; put it into this file")
            yield str(node.module).partition(".")[0]


def _hyphenated(name: str) -> str:
    """``MyIdea`` → ``my-idea``, ``JTRNet`` → ``jtr-net``."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", name)
    return "-".join(words).lower()


def _first_line(plugin: ast.ClassDef) -> str | None:
    """The docstring's first line as a summary, where a template takes it."""
    line = (ast.get_docstring(plugin) or "").partition("\n")[0].strip().removesuffix(".")
    return line if line and len(line) <= 100 and "\\" not in line and '"""' not in line else None


def _fill(folder: Path, name: str, plugin: str, source: str, hooks: list[str]) -> None:
    """Put the file and its tests in the place of the template's."""
    module = f"mtl_{name.replace('-', '_')}"
    (folder / "src" / module / "__init__.py").write_text(source, "utf-8")
    said = re.search(r'^description = "(.*)"$', (folder / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    about = said[1].replace('\\"', '"') if said else name
    (folder / "README.md").write_text(_README.format(distribution=folder.name, summary=about, name=name), "utf-8")
    (folder / "tests" / f"test_{module}.py").write_text(_tests(name, module, plugin, hooks), "utf-8")


def _tests(name: str, module: str, plugin: str, hooks: list[str]) -> str:
    toys = {hook: toy for hook, toy in _TOYS.items() if hook not in hooks}
    contracts = [_PLACES[hook][1] for hook in hooks]
    own = f"from {module} import {plugin}"
    core = ["from mtl_core import Experiment, train"]
    core += [f"from mtl_core.testing import {', '.join(sorted([*contracts, *toys.values()]))}"]
    imports = "\n".join([own, *core] if module < "mtl_core" else [*core, own])
    titles = [plugin] if len(hooks) == 1 else [contract.removesuffix("Contract") for contract in contracts]
    pairs = zip(titles, contracts, strict=True)
    classes = "\n".join(_CONTRACT.format(title=t, contract=c, plugin=plugin) for t, c in pairs)
    made = ", ".join(f'"{toy.removeprefix("Toy").lower()}": {toy}({_options(toy)})' for toy in toys.values())
    return _TEST.format(imports=imports, classes=classes, toys=made, name=name, plugin=plugin)


def _options(toy: str) -> str:
    return "samples=9" if toy == "ToyData" else ""


def _require(project: Path, name: str, plugin: str, further: list[str]) -> None:
    """Name the class and what it needs in the distribution's ``pyproject.toml``."""
    text = project.read_text("utf-8")
    module = f"mtl_{name.replace('-', '_')}"
    text = re.sub(rf'"{module}:\w+"', f'"{module}:{plugin}"', text)
    more = "".join(f', "{line}"' for line in further)
    project.write_text(re.sub(r"(dependencies = \[[^\]]*)\]", rf"\g<1>{more}]", text, count=1), "utf-8")
