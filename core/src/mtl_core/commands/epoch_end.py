"""What happens when an epoch's record is written: it is shown, plugins and observers see it; warnings are kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mtl_core.console import Monitor, Watcher
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.training.session import Session

_log = logging.getLogger("mtl")


class EpochEnd:
    """Called on rank 0 with each epoch's record.

    :param watch: shows the epoch, if it is a :class:`Monitor`
    :param observers: called behind the experiment's plugins
    """

    def __init__(self, session: Session, run: RunFolder, watch: Watcher, observers: Hooks | None) -> None:
        self.run = run
        self.watch = watch
        self.hooks = [session.hooks] if observers is None else [session.hooks, observers]

    def __call__(self, record: Mapping[str, Any], best: bool) -> bool:
        """Show the record and call ``after_epoch``; whether a plugin or an observer asks the run to stop."""
        if isinstance(self.watch, Monitor):
            self.watch.show_epoch(record, best)
        looks = [pair for hooks in self.hooks for pair in hooks.after_record(self.run.folder, record)]
        asked = [name for name, look in looks if _stops(look)]
        if asked:
            _log.warning("%s asked the run to stop after epoch %d", ", ".join(asked), record["epoch"] + 1)
        return bool(asked)


def _stops(look: Any) -> bool:
    """Ask one plugin; its error is reported, since it changes nothing of the training."""
    try:
        return look() is True
    except Exception as error:
        notes = "; ".join(getattr(error, "__notes__", ()))
        _log.warning("the run goes on, but `after_epoch` failed: %s: %s (%s)", type(error).__name__, error, notes)
        return False


@contextmanager
def keeping_warnings(run: RunFolder | None) -> Iterator[None]:
    """Write the warnings that are reported meanwhile into the run folder too, for its report.

    :param run: None on other ranks
    """
    if run is None:
        yield
        return
    kept = run

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            kept.warn(len(kept.history()), record.getMessage())
        return True

    # a filter and not a handler: Python prints warnings itself only where the logger has no handler
    _log.addFilter(keep)
    try:
        yield
    finally:
        _log.removeFilter(keep)
