"""Help pages show a flag without a type, and every other option with its own."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.testing import CliRunner

from mtl_core.commands.help_pages import Group, _Command, use_plain_flags


def app() -> typer.Typer:
    made = typer.Typer(cls=Group)

    @made.callback()
    def top(loud: Annotated[bool, typer.Option("--loud", help="Say more.")] = False) -> None:
        """Everything."""

    @made.command()
    def run(
        quiet: Annotated[bool, typer.Option("--quiet", help="Say less.")] = False,
        steps: Annotated[int, typer.Option(help="How many.")] = 3,
    ) -> None:
        """Run it."""
        print(quiet, steps)

    return made


def page(made: typer.Typer, *arguments: str) -> str:
    return CliRunner().invoke(made, [*arguments, "--help"], env={"COLUMNS": "100", "TERM": "dumb"}).output


def line_with(text: str, page: str) -> str:
    return next(line for line in page.splitlines() if text in line)


def test_flags_have_no_type_and_numbers_have_one() -> None:
    made = app()
    use_plain_flags([made])
    shown = page(made, "run")
    assert "bool" not in line_with("--quiet", shown).lower()
    assert "int" in line_with("--steps", shown).lower()
    assert "bool" not in line_with("--loud", page(made)).lower()


def test_every_command_of_every_app_is_changed_and_still_runs() -> None:
    apps = [app(), app()]
    use_plain_flags(apps)
    assert {info.cls for made in apps for info in made.registered_commands} == {_Command}
    assert CliRunner().invoke(apps[1], ["run", "--quiet", "--steps", "5"]).output == "True 5\n"
