"""Write the tables of hooks in the documentation from the specs: ``python tests/hook_tables.py``.

A table stands in a Markdown file between ``<!-- NAME: … -->`` and ``<!-- end -->``. Every distribution of the
repository has to be installed, because the table of places names the plugins that fill them.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from mtl_core import installed_plugins, testing
from mtl_core.hooks import hookspecs
from mtl_core.hooks.load import load
from mtl_core.hooks.spec_table import hook_arguments, hooks_of

ROOT = Path(__file__).parents[1]
FIELD = re.compile(r"^:(place|gives|how many): (.+)$", re.MULTILINE)
BLOCK = re.compile(r"(<!-- (\w+): written by [^\n]* -->\n).*?(<!-- end -->)", re.DOTALL)

CONDITIONS = {
    ("build_dataset", "pseudo"): "around another data set",
    ("build_dataset", "folder"): "your own data",
    ("choose_windows", "mtpsl"): '`variant = "released"`',
    ("combine_losses", "torchjd"): "UW, STCH, FAMO, …",
    ("combine_losses", "auto-lambda"): '`place = "losses"`',
    ("compute_regularizer", "ial"): "where another plugin combines the losses",
    ("before_step", "jtr"): '`substitutes = "ema"`',
    ("before_step", "nash"): "`heads = true`",
    ("before_step", "ol-aux"): '`measure = "product"`',
    ("before_step", "torchjd"): "`heads = true`",
    ("after_step", "torchjd"): "FAMO",
    ("shape_encoder_gradient", "auto-lambda"): '`place = "encoder"`',
    ("shape_encoder_gradient", "torchjd"): "MGDA, PCGrad, CAGrad, UPGrad, …",
}
"""(hook, plugin) → with which options or for what the plugin fills the place, where it is not always."""


def fields_of(hook: str) -> dict[str, str]:
    """The fields of a spec's docstring that are columns of tables."""
    return dict(FIELD.findall(inspect.getdoc(getattr(hookspecs, hook)) or ""))


def contracts() -> dict[str, list[str]]:
    """Hook → the contract classes that check it."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in testing.__all__:
        contract = getattr(testing, name)
        if inspect.isclass(contract) and issubclass(contract, testing.PluginContract):
            for hook in (contract.hook, *contract.other_hooks):
                found[hook].append(name)
    return found


def fillers() -> dict[str, list[str]]:
    """Hook → the plugins of this repository that have it."""
    found: dict[str, list[str]] = defaultdict(list)
    for group in ("mtl.plugins", "mtl.observers"):
        ours = plugins_here(group)
        for plugin in installed_plugins(group=group):
            for hook in hooks_of(load(plugin)) if plugin.name in ours else ():
                found[hook].append(plugin.name)
    return found


def plugins_here(group: str) -> set[str]:
    """The names that the repository's distributions give; others may be installed beside them."""
    names: set[str] = set()
    for path in [*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("contrib/*/pyproject.toml")]:
        project = tomllib.loads(path.read_text("utf-8"))["project"]
        names |= project.get("entry-points", {}).get(group, {}).keys()
    return names


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    lines.insert(1, "|" + "---|" * len(columns))
    return "\n".join(lines) + "\n"


def hooks() -> str:
    """Every hook with what it gives, who answers and the contract that checks it."""
    checked = contracts()
    rows = []
    for hook in hook_arguments():
        fields = fields_of(hook)
        names = ", ".join(f"`{name}`" for name in checked[hook])
        rows.append((f"`{hook}`", fields["gives"], fields["how many"], names or "–"))
    return table(("hook", "gives", "how many", "contract"), rows)


def places() -> str:
    """The places in a step with the plugins that fill them."""
    known = fillers()
    rows = []
    for hook in hook_arguments():
        fields = fields_of(hook)
        if "place" in fields:
            plugins = ", ".join(with_condition(hook, name) for name in known[hook])
            rows.append((fields["place"], f"`{hook}`", plugins, fields["how many"]))
    return table(("place", "hook", "plugins here", "how many"), rows)


def with_condition(hook: str, plugin: str) -> str:
    condition = CONDITIONS.get((hook, plugin))
    return f"{plugin} ({condition})" if condition else plugin


TABLES: dict[str, Callable[[], str]] = {"hooks": hooks, "places": places}
PAGES = {"docs/writing-a-plugin.md", "README.md"}


def generated(text: str) -> str:
    """A page with its tables written anew."""
    return BLOCK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> None:
    for name in sorted(PAGES):
        page = ROOT / name
        before = page.read_text("utf-8")
        after = generated(before)
        if after != before:
            page.write_text(after, "utf-8")
            print(f"{name}: tables of hooks written")


if __name__ == "__main__":
    main()
