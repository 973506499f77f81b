"""MTPSL as a plugin.

Shape letters: B samples, K tasks, S places for pairs, C channels of the embeddings, h and w their size.
"""

from __future__ import annotations

from typing import Any

import torch
from attrs import field
from attrs.validators import ge, gt, optional
from torch import Tensor, nn

from mtl_core.errors import MtlError, nearest
from mtl_core.nn import Networks
from mtl_core.plugin import help, hookimpl, plugin
from mtl_core.step import Step
from mtl_core.tasks import Tasks
from mtl_mtpsl.distances import anchor, cosine
from mtl_mtpsl.maps import full, known_or_predicted
from mtl_mtpsl.pairs import Places, most_pairs, ordered_pairs, placed
from mtl_mtpsl.spaces import PairSpaces


@plugin
class MTPSL(nn.Module):
    """Cross-task consistency: what is predicted for one task must agree with another's label in their joint space.

    Li et al., "Learning Multiple Dense Prediction Tasks from Partially Annotated Data", CVPR 2022; in the form of
    Nishi et al., CVPR 2024, Eq. 3.
    """

    weight: float = field(default=2.0, validator=ge(0.0), metadata=help("coefficient of the term"))
    feature_weight: float = field(
        default=0.5, validator=ge(0.0), metadata=help("of both embeddings' distance to the backbone's features")
    )
    film_learning_rate: float = field(default=1e-3, validator=gt(0.0), metadata=help("learning rate of FiLM"))
    film_weight_decay: float = field(default=0.0, validator=ge(0.0), metadata=help("weight decay of FiLM"))
    bottleneck: int | None = field(
        default=None, validator=optional(gt(0)), metadata=help("channels of the embeddings; none: 8 · width")
    )
    width: int | None = field(
        default=None, validator=optional(gt(0)), metadata=help("channels of m's first level; none: the backbone's")
    )
    tasks: tuple[str, ...] = field(default=(), metadata=help("tasks that are paired; empty: all"))

    @hookimpl
    def setup(self, name: str, tasks: Tasks, networks: Networks, labelled: Tensor | None) -> None:
        self.paired = chosen(name, tasks, self.tasks)
        columns = None if labelled is None else labelled[:, [tasks.position(t) for t in self.paired.names]]
        self.per_sample = most_pairs(len(self.paired), columns)
        source, target = ordered_pairs(len(self.paired))
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("target", target, persistent=False)
        channels = [task.channels for task in self.paired]
        self.m = PairSpaces(channels, networks, "convolution", self.width, self.bottleneck)
        self.m.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @hookimpl
    def parameter_groups(self) -> list[dict[str, Any]]:
        rates = {"lr": self.film_learning_rate, "weight_decay": self.film_weight_decay}
        return [{"params": self.m.film_parameters(), **rates}]

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        labelled = torch.stack([step.labelled[:, step.tasks.position(t)] for t in self.paired.names], 1)
        places = placed(labelled, self.source, self.target, self.per_sample * len(labelled))
        source, target = self.embeddings(step, places)
        z = anchor(step, 0, source).index_select(0, places.sample)
        between = cosine(source, target, False)
        to_features = cosine(source, z, False) + cosine(target, z, False)
        share = self.shares(labelled, places)
        step.log("latent_distance", mean(between, places.used))
        step.log("pairs", places.used.sum() / len(labelled))
        return {
            "distance": self.weight * (share * between).sum(),
            "features": self.weight * self.feature_weight * (share * to_features).sum(),
        }

    def embeddings(self, step: Step, places: Places) -> tuple[Tensor, Tensor]:
        """m(ŷ^s) and m(y^t), each (S, C, h, w), of one pass."""
        maps = [known_or_predicted(step, task, 0) for task in self.paired]
        maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
        samples = maps[0].shape[0]
        chosen = torch.cat([tasks[places.pair] * samples + places.sample for tasks in (self.source, self.target)])
        source, target = full(self.m(maps, chosen, places.pair.repeat(2))).chunk(2)
        return source, target

    def shares(self, labelled: Tensor, places: Places) -> Tensor:
        """1 / (B · |U_x|) of the places that count, 0 of the others; (S,)."""
        unlabelled = (~labelled).sum(1)[places.sample].clamp(min=1)
        return places.used / (unlabelled * len(labelled))


def mean(values: Tensor, used: Tensor) -> Tensor:
    return (values * used).sum() / used.sum().clamp(min=1)


def chosen(name: str, tasks: Tasks, names: tuple[str, ...]) -> Tasks:
    """The tasks that are paired: two or more, all dense."""
    unknown = [n for n in names if n not in tasks.names]
    if unknown:
        raise MtlError(
            f"{name}.tasks: the data set has no task {unknown[0]!r}{nearest(unknown[0], tasks.names)}"
            f" (its tasks: {', '.join(tasks.names)})"
        )
    selected = tasks.select(names) if names else tasks
    flat = [task.name for task in selected if not task.dense]
    if flat:
        raise MtlError(
            f"{name}: task {flat[0]!r} has one value per image and cannot be mapped like an image;"
            f" leave it out: tasks = {[t.name for t in selected if t.dense]}"
        )
    if len(selected) < 2:
        raise MtlError(f"{name}: pairs need two tasks, found {', '.join(selected.names)}; remove the plugin")
    return selected
