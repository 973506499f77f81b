"""Early stopping: without progress on validation data, or because a plugin asks for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder

_log = logging.getLogger("mtl")


def ask_observers(observers: Hooks | None, epoch: int, metrics: Mapping[str, float], run: RunFolder) -> bool:
    """Call the observers after an epoch; an error of theirs is reported and changes nothing of the run.

    :return: whether one of them wants the run to end
    """
    if observers is None:
        return False
    try:
        return observers.after_epoch(epoch, metrics, run.folder)
    except Exception as error:  # of any kind: the experiment does not depend on its observers
        notes = "; ".join(getattr(error, "__notes__", ()))
        _log.warning(
            "%s: the run goes on, but an observer failed after epoch %d: %s (%s)", run.folder, epoch, error, notes
        )
        return False


class Stopping:
    """Whether a run ends early: without progress on validation data, or because a plugin asks for it.

    :param experiment: its ``patience`` is the number of epochs without a better one after which the run ends
    :param has_validation: whether the run has validation data
    :raises MtlError: ``patience`` is set and there are none
    """

    def __init__(self, experiment: Experiment, has_validation: bool) -> None:
        self.patience = experiment.patience
        if self.patience is not None and not has_validation:
            raise MtlError(
                "patience: needs validation data, which tell whether a run gets better; set validation above 0"
            )
        self.epochs = 0
        self.asked = False

    @property
    def now(self) -> bool:
        """Whether the run is to end."""
        return self.asked or (self.patience is not None and self.epochs >= self.patience)

    @property
    def reason(self) -> str:
        """Why the run ends."""
        return "a plugin asked for it" if self.asked else f"no better epoch in the last {self.epochs}"

    def report(self, run: RunFolder, epochs: int) -> None:
        """Warn that the run ends after ``epochs`` epochs, if it does."""
        if self.now:
            _log.warning("%s: ends after %d epochs: %s", run.folder, epochs, self.reason)

    def note(self, better: bool, asked: bool = False) -> None:
        """An epoch has ended.

        :param better: whether it was the best one so far
        :param asked: whether a plugin wants the run to end
        """
        self.epochs = 0 if better else self.epochs + 1
        self.asked = self.asked or asked

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "asked": self.asked}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """A checkpoint of an older version has none."""
        self.epochs = state.get("epochs", 0)
        self.asked = state.get("asked", False)
