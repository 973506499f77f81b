"""What a suite writes beside its runs: its table in several forms, and the plot. Imports no torch."""

from __future__ import annotations

import io

from rich.console import Console

from mtl_core import write_text
from mtl_suite.markdown import markdown
from mtl_suite.plan import Suite
from mtl_suite.plot import drawn_metrics, plot
from mtl_suite.results import collect, to_json
from mtl_suite.tables import html, latex, rich_table


def write_tables(suite: Suite) -> None:
    """``table.txt``, ``.json``, ``.tex``, ``.html`` and ``.md`` in the suite's folder, and ``plot.svg`` once there is a
    result.
    """
    table = collect(suite)
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(rich_table(table))
    files = {
        "txt": console.export_text(), "json": to_json(table), "tex": latex(table), "html": html(table),
        "md": markdown(table),
    }  # fmt: skip
    for ending, text in files.items():
        write_text(suite.folder / f"table.{ending}", text)
    if drawn_metrics(table):
        plot(table).save(suite.folder / "plot.svg")


def why_unwritten(suite: Suite) -> str | None:
    """:func:`write_tables`, which must not end a training; what went wrong, or None."""
    try:
        write_tables(suite)
    except Exception as error:  # of any kind: a table is written again, a run that was stopped costs days
        return f"the table in {suite.folder} was not written: {error}"
    return None
