"""The reference, written from the code: every hook, object, kind of task, contract, option, metric and command.

What has no words in the code stops the build: a hook without a docstring, an option without help, a plugin without a
page. Usage without Sphinx: ``python site/generate.py FOLDER``.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs
import click
import typer

from mtl_core import (
    Batch,
    EncoderGradients,
    ExtraData,
    FinishedRun,
    LookAhead,
    MultiTaskDataset,
    Sample,
    Shaped,
    Step,
    Task,
    Tasks,
    cli,
    installed_plugins,
    testing,
)
from mtl_core.commands.explain import as_default, explain
from mtl_core.hooks import hookspecs
from mtl_core.hooks.spec_table import exclusive_hooks, hook_arguments
from mtl_core.testing.contract import checks_of
from mtl_core.training.saved_tasks import OWN

PAGES = Path(__file__).parent.parent / "docs"
ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
PARAMETER = re.compile(r"^:(param (?P<name>\w+)|(?P<kind>return)|raises (?P<error>[\w.]+)):\s*(?P<text>.*)$")


class Undocumented(Exception):
    """Something of the public surface that no page would say anything about."""


def write(folder: Path) -> None:
    """Write every page of the reference into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PARTS.items():
        text = page()
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def hooks() -> str:
    lines = ["# Hooks", "", "In the order of a run. A hook takes only the arguments that it names.", ""]
    for name in hook_arguments():
        spec = getattr(hookspecs, name)
        if not spec.__doc__:
            raise Undocumented(f"hook {name} has no docstring")
        how = "one plugin" if name in exclusive_hooks() else "every plugin that has it"
        lines += [f"## {name}", "", "```python", signature(name, spec), "```", "", f"*Filled by {how}.*", ""]
        lines += [prose(spec.__doc__), ""]
    return "\n".join(lines)


def objects() -> str:
    """What hooks are given and give."""
    shown = (Step, EncoderGradients, Shaped, LookAhead, FinishedRun, Sample, Batch, MultiTaskDataset, ExtraData, Tasks)
    parts = [described(cls) for cls in shown]
    return "\n".join(["# What plugins see", "", "All of it is imported from `mtl_core`.", "", *parts])


def tasks() -> str:
    kinds = {**OWN, **{entry.name: entry.load() for entry in entry_points(group="mtl.tasks")}}
    lines = ["# Kinds of tasks", "", "A kind is a subclass of `Task`, which says what it may override.", ""]
    for name, kind in sorted(kinds.items()):
        lines += [
            f"## {name}",
            "",
            f"`{kind.__module__.partition('.')[0]}.{kind.__qualname__}`",
            "",
            prose(doc(kind)),
            "",
        ]
        lines += [f"Main metric: `{kind.headline}`, better when {'higher' if kind.higher_is_better else 'lower'}.", ""]
    return "\n".join([*lines, described(Task)])


def metrics() -> str:
    kinds = {**OWN, **{entry.name: entry.load() for entry in entry_points(group="mtl.tasks")}}
    lines = [
        "# Metrics",
        "",
        "Of every kind of task. The main metric is in bold.",
        "",
    ]
    lines += ["| kind | metric | unit | better when |", "|---|---|---|---|"]
    for name, kind in sorted(kinds.items()):
        task = made(kind)
        for metric in scored(task):
            shown = f"**{metric}**" if metric == task.headline else metric
            better = "higher" if task.better_when_higher(metric) else "lower"
            lines.append(f"| {name} | {shown} | {task.unit(metric)} | {better} |")
    return "\n".join([*lines, ""])


def made(kind: type[Task]) -> Task:
    """A task of a kind, with three channels where they have no default."""
    options = {a.name: 3 for a in attrs.fields(kind) if a.default is attrs.NOTHING and a.name != "name"}
    return kind(name="task", **options)


def scored(task: Task) -> list[str]:
    import torch

    generator = torch.Generator().manual_seed(0)
    target = task.example(2, (8, 8), generator)
    prediction = torch.randn(2, task.channels, *((8, 8) if task.dense else ()), generator=generator)
    metric = task.metrics()
    metric.update(prediction, target)
    return list(metric.compute())


def contracts() -> str:
    lines = [
        "# Contracts",
        "",
        "`mtl_core.testing`: a class per hook, and one for kinds of tasks. Each check is one promise.",
        "",
    ]
    for name in testing.__all__:
        contract = getattr(testing, name)
        if not name.endswith("Contract") or name in ("Contract", "PluginContract"):
            continue
        lines += [f"## {name}", "", prose(doc(contract)), ""]
        for check in checks_of(contract):
            why = inspect.getdoc(getattr(contract, check))
            line = f"- {check.removeprefix('test_').replace('_', ' ')}"
            lines.append(f"{line}: {inline(' '.join(why.split()))}" if why else line)
        lines.append("")
    return "\n".join(lines)


def plugins() -> str:
    index = (PAGES / "README.md").read_text("utf-8")
    lines = ["# Plugins and their options", "", "Of every installed plugin, as `mtl explain` prints them.", ""]
    for found in installed_plugins():
        record = explain(found.name)
        page = page_of(found.name, index)
        where = f"[{found.name}](../{page}), of `{found.distribution}`. Hooks: {listed(record['hooks'])}."
        lines += [f"## {found.name}", "", where, ""]
        lines += [prose(record["summary"].partition("\n\n")[0]), "", *options_table(found.name, record["options"]), ""]
    return "\n".join(lines)


def options_table(plugin: str, options: list[dict[str, Any]]) -> list[str]:
    if not options:
        return ["It has no options."]
    silent = [option["name"] for option in options if not option["help"].strip()]
    if silent:
        raise Undocumented(f"options of {plugin} without help: {', '.join(silent)}")
    rows = [
        f"| `{o['name']}` | {cell(o['type'])} | `{cell(as_default(o))}` | {cell(inline(o['help']))} |" for o in options
    ]
    return ["| option | type | default | what it is |", "|---|---|---|---|", *rows]


def page_of(plugin: str, index: str) -> str:
    """The plugin's page, by the table in docs/README.md."""
    for title, page in re.findall(r"\[([^\]]+)\]\((methods/[^)]+)\)", index):
        if plugin in re.split(r",\s*", title):
            return str(page)
    raise Undocumented(f"plugin {plugin} has no page in docs/README.md")


def commands() -> str:
    cli.join_commands()
    root = typer.main.get_command(cli.app)
    lines = ["# Commands", ""]
    for path, command in walk("mtl", root):
        usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=path)))
        lines += [f"## {path}", "", prose(command.help or ""), "", f"    {path} {usage}", ""]
        lines += [f"- `{', '.join(p.opts)}`: {inline(p.help)}" for p in command.params if getattr(p, "help", None)]
        lines.append("")
    return "\n".join(lines)


def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, below in sorted(getattr(command, "commands", {}).items()):
        if hasattr(below, "commands"):
            yield from walk(f"{path} {name}", below)
        else:
            yield f"{path} {name}", below


def described(cls: type) -> str:
    lines = [f"## {cls.__name__}", "", prose(doc(cls)), ""]
    for name, member in members(cls):
        text = inspect.getdoc(member)
        if text:
            title = signature(name, member) if inspect.isfunction(member) else name
            lines += [f"### {cls.__name__}.{name}", "", "```python", title, "```", "", prose(text), ""]
    return "\n".join(lines)


def members(cls: type) -> Iterable[tuple[str, Any]]:
    for name, member in vars(cls).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield name, member


def signature(name: str, function: Callable[..., Any]) -> str:
    shown = inspect.signature(function)
    kept = [p for p in shown.parameters.values() if p.name != "self"]
    arguments = ", ".join(str(p).replace("'", "") for p in kept)
    returned = "" if shown.return_annotation is inspect.Signature.empty else f" -> {shown.return_annotation}"
    return f"def {name}({arguments}){returned}: ..."


def doc(cls: type) -> str:
    text = cls.__doc__
    if not text:
        raise Undocumented(f"{cls.__name__} has no docstring")
    return text


def prose(text: str) -> str:
    """A docstring as Markdown: fields become lists."""
    paragraphs, fields = [], []
    for line in inspect.cleandoc(text).splitlines():
        found = PARAMETER.match(line.strip())
        if found:
            fields.append(field_line(found))
        elif fields and line.strip():
            fields[-1] += f" {line.strip()}"
        else:
            paragraphs.append(line)
    body = inline("\n".join(paragraphs)).replace("::\n", ":\n").strip()
    return "\n".join([body, "", *map(inline, fields)]).strip()


def field_line(found: re.Match[str]) -> str:
    if found["name"]:
        return f"- `{found['name']}`: {found['text']}"
    if found["kind"]:
        return f"- returns {found['text']}"
    return f"- raises `{found['error'].rpartition('.')[2]}`: {found['text']}"


def inline(text: str) -> str:
    """Roles and double backquotes of reStructuredText as code."""
    return ROLE.sub(r"`\1`", text).replace("``", "`").replace("<", "\\<")


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"[{name}](hooks.md#{name})" for name in names)


PARTS: dict[str, Callable[[], str]] = {
    "hooks": hooks,
    "objects": objects,
    "tasks": tasks,
    "metrics": metrics,
    "contracts": contracts,
    "plugins": plugins,
    "commands": commands,
}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
