"""``python -m mtl_cifar100 RUN …``: accuracies of domains and their mean, as a table or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtl_cifar100.domains import DOMAINS
from mtl_cifar100.table import HARDEST, Row, rows, shown
from mtl_core import MtlError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mtl_cifar100", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="a run's folder, a set's, or a suite's")
    parser.add_argument("--all", action="store_true", help="every domain, not the five of IAL's Tab. VII")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        found = rows(options.folders)
    except MtlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps([_as_json(row) for row in found], indent=2))
    else:
        Console().print(_table(found, DOMAINS if options.all else HARDEST))
    return 0


def _table(found: Sequence[Row], domains: Sequence[str]) -> Table:
    """A line per domain and one for the mean; a column per row of the results."""
    made = Table(title="Accuracy, %", title_justify="left")
    made.add_column("domain")
    for row in found:
        seeds = f" ({len(row.seeds)} seeds)" if len(row.seeds) > 1 else ""
        made.add_column(escape(row.name) + seeds, justify="right", overflow="fold")
    for name in domains:
        made.add_row(name, *(shown(row.domain(name)) for row in found))
    made.add_section()
    made.add_row("[bold]mean of 20", *(_mean_or_count(row) for row in found))
    return made


def _mean_or_count(row: Row) -> str:
    return shown(row.mean) if row.mean is not None else f"{row.domains} of {len(DOMAINS)}"


def _as_json(row: Row) -> dict[str, object]:
    return {
        "name": row.name,
        "seeds": len(row.seeds),
        "domains": {name: row.domain(name) for name in DOMAINS},
        "mean": row.mean,
    }


if __name__ == "__main__":
    sys.exit(main())
