"""Commands of ``mtl`` that other distributions have."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import typer

from mtl_core.commands.help_pages import Group, use_plain_flags
from mtl_core.discovery import distribution_name

if TYPE_CHECKING:
    from typer.models import CommandInfo


def join_commands(app: typer.Typer) -> None:
    """Add the commands of other distributions: entry points of the group ``mtl.commands``, functions or typer apps.

    Several distributions may share a group, such as ``mtl data``. What cannot be imported, or has a name that is taken,
    is reported and left out; the others go on working.
    """
    taken = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    taken |= {group.name or "" for group in app.registered_groups}
    groups: dict[str, typer.Typer] = {}
    # sorted: which of two commands of one name is kept must not depend on the order of installation
    entries = sorted(entry_points(group="mtl.commands"), key=lambda entry: (entry.name, entry.value))
    for entry in entries:
        if entry.name in taken:
            continue
        try:
            command = entry.load()
        except Exception as error:
            _report(entry, f"cannot be imported ({error}); install it again")
            continue
        if isinstance(command, typer.Typer):
            _join(groups, entry, command)
        else:
            taken.add(entry.name)
            app.command(entry.name)(command)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    use_plain_flags([app, *groups.values()])


def _join(groups: dict[str, typer.Typer], entry: EntryPoint, command: typer.Typer) -> None:
    """Add a distribution's group of commands to those of the same name."""
    if entry.name not in groups:
        groups[entry.name] = typer.Typer(
            cls=Group, help=command.info.help if isinstance(command.info.help, str) else None, no_args_is_help=True
        )
    group = groups[entry.name]
    names = {_name(one) for one in group.registered_commands}
    for one in command.registered_commands:
        if _name(one) in names:
            _report(entry, f"has {_name(one)}, which another distribution has too; uninstall one of the two")
        else:
            group.registered_commands.append(one)


def _name(command: CommandInfo) -> str | None:
    return command.name or (command.callback.__name__ if command.callback else None)


def _report(entry: EntryPoint, problem: str) -> None:
    owner = (distribution_name(entry.dist) if entry.dist else "") or "?"
    print(f"mtl: command {entry.name} of {owner} {problem}", file=sys.stderr)
