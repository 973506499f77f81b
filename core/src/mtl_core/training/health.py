"""Warnings about a run that goes on: each once, by rank 0."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping

from mtl_core.experiment import Experiment
from mtl_core.hooks.relay import Hooks
from mtl_core.training.encoder_gradient import STOPPED

_log = logging.getLogger("mtl")

_DEPARTS = 1.5
"""How many times larger a validation loss must be than the training loss to be suspicious."""


class Health:
    """Looks at the values of an epoch and warns of what a reader of the metrics would miss.

    :param reports: whether this rank reports
    """

    def __init__(self, experiment: Experiment, hooks: Hooks, reports: bool) -> None:
        self._experiment = experiment
        self._hooks = hooks
        self._reports = reports
        self._reported: set[str] = set()

    def no_labels(self, samples: int) -> None:
        """Warn that no training sample has a label: only regularizers train the network."""
        self._report_once(
            "labels",
            f"none of the {samples} training samples carries a label of a task that is learned: there is nothing to"
            " learn from but regularizers",
        )

    def no_heads(self) -> None:
        """Warn that every head is frozen."""
        self._report_once(
            "heads", "freeze names every task: no head is trained, only the encoder and what plugins learn"
        )

    def look_at(self, epoch: int, record: Mapping[str, float], terms: Collection[str] = ()) -> None:
        """Look at what an epoch left.

        :param epoch: from 0
        :param terms: names of the regularizers' terms in the record
        """
        self._look_at_steps(epoch, record)
        self._look_at_terms(epoch, record, terms)
        self._look_at_encoder(record)
        self._look_at_heads(epoch, record)

    def _look_at_steps(self, epoch: int, record: Mapping[str, float]) -> None:
        if skips := round(record.get("skipped_steps", 0.0)):
            self._report_once(
                "skipped",
                f"epoch {epoch + 1}: {skips} step{'s were' if skips > 1 else ' was'} skipped, the gradients were not"
                " finite; lower learning_rate or set clip",
            )

    def _look_at_terms(self, epoch: int, record: Mapping[str, float], terms: Collection[str]) -> None:
        """A term that is always 0 teaches nothing, and nothing fails."""
        # a mean is 0 where every step's value is: values that cancel do not add up to exactly 0
        silent = [name for name in sorted(terms) if record.get(name) == 0 and f"term {name}" not in self._reported]
        if not silent:
            return
        self._report_once(
            f"term {silent[0]}",
            f"epoch {epoch + 1}: exactly 0 in every step: {', '.join(silent)}; such a term teaches nothing. Look"
            " whether the views that it compares differ (a plugin has to augment them), whether any sample has the"
            " labels that it needs, and whether its weight is above 0",
        )
        self._reported.update(f"term {name}" for name in silent)

    def _look_at_heads(self, epoch: int, record: Mapping[str, float]) -> None:
        """A head that nothing reaches stays as it was made; the other metrics do not show it."""
        # no head gets a label then, and one warning said so
        if "labels" in self._reported:
            return
        names = [name.removeprefix("train/labels/") for name in record if name.startswith("train/labels/")]
        for name in names:
            if record[f"train/labels/{name}"] or name in self._experiment.freeze:
                continue
            share = record.get(f"heads/regularizer/{name}", 0.0)
            learns = "it learns from regularizers alone" if share > 0 else "nothing trains it"
            self._report_once(f"head {name}", f'epoch {epoch + 1}: no label reached the head of "{name}": {learns}')

    def _look_at_encoder(self, record: Mapping[str, float]) -> None:
        """Where a shaper gives every branch the weight 0, only the heads are trained; the loss falls nevertheless."""
        share = record.get(STOPPED, math.nan)
        if share > 0:
            self._report_once(
                STOPPED,
                f'plugin "{self._hooks.places["shape_encoder_gradient"]}" let no gradient into the encoder in'
                f" {100 * share:.3g} % of an epoch's steps, although tasks had one; see {STOPPED} in metrics.jsonl",
            )

    def is_suspicious(self, trained: Mapping[str, float], evaluated: Mapping[str, float]) -> bool:
        """Whether a task's validation loss is far above its training loss: overfitting, or batch norm's statistics."""
        return "statistics" not in self._reported and bool(_far(trained, evaluated))

    def look_at_statistics(self, by_batch: Mapping[str, float], evaluated: Mapping[str, float]) -> None:
        """Compare losses on the same data: normalised by each batch, and by batch norm's own statistics."""
        far = _far(by_batch, evaluated)
        if not far:
            return
        losses = ", ".join(f"{task} {evaluated[task]:.3g} against {by_batch[task]:.3g}" for task in far)
        remedies = "group norm or larger batches"
        if self._experiment.batch_norm == "running":
            remedies = f'batch_norm = "reestimated", {remedies}'
        self._report_once(
            "statistics",
            "batch norm's statistics do not fit: validation losses in evaluation mode, against those with the"
            f" statistics of each batch of {self._experiment.batch_size} as in training, are {losses}; use {remedies}",
        )

    def _report_once(self, key: str, message: str) -> None:
        if self._reports and key not in self._reported:
            _log.warning(message)
        # on every rank: `is_suspicious` has to answer the same on all, since an evaluation by all ranks follows
        self._reported.add(key)


def _far(low: Mapping[str, float], high: Mapping[str, float]) -> list[str]:
    """Tasks whose loss is much higher in the second; a NaN is never."""
    return [task for task, loss in high.items() if loss > _DEPARTS * low.get(task, math.nan)]
