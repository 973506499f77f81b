"""MTPSL as a plugin.

Shape letters: B samples, K tasks, R = K·(K − 1) ordered pairs, S places for pairs, C channels of the embeddings, h and
w their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from attrs import field
from attrs.validators import deep_iterable, ge, gt, in_, optional
from torch import Tensor, nn

from mtl_core import (
    About,
    Segmentation,
    Step,
    Task,
    Tasks,
    at_least_float32,
    draw_windows,
    help,
    hookimpl,
    plugin,
)
from mtl_mtpsl.distances import anchor, cosine, spread
from mtl_mtpsl.maps import Forms, known_or_predicted
from mtl_mtpsl.pairs import Places, most_labels, most_pairs, ordered_pairs, placed
from mtl_mtpsl.spaces import PairSpaces, Place
from mtl_nn import Networks, Norm

_SWITCHES: dict[str, tuple[Any, Any]] = {
    "second_view": (False, True),
    "segmentation_as": ("probabilities", "samples"),
    "sample_for": ("task", "pair"),
    "depth_as": ("metres", "share"),
    "normals_as": ("unit", "positive"),
    "mask_invalid": (True, False),
    "per_unlabelled": (True, False),
    "film": ("convolution", "norm"),
    "statistics": ("batch", "sample"),
    "per_location": (False, True),
}
"""What ``variant`` decides: option → (paper, released)."""


def _switch(text: str, *values: str, check: Sequence[Any] = ()) -> Any:
    """An option that follows the variant unless it is set."""
    known = optional(in_(values or (True, False)))
    return field(default=None, validator=[known, *check], metadata=help(f"{text}; none: as the variant"))


def _film_survives(instance: Any, attribute: Any, value: object) -> None:
    if instance.says("statistics") == "sample" and instance.says("film") == "convolution":
        raise ValueError('"sample" takes away what FiLM does before the norm; use film = "norm"')


@plugin
class MTPSL(nn.Module):
    """Cross-task consistency: a task's prediction must agree with another task's label in their joint space.

    Li et al., "Learning Multiple Dense Prediction Tasks from Partially Annotated Data", CVPR 2022; in the form of
    Nishi et al., CVPR 2024, Eq. 3.
    """

    variant: Literal["paper", "released"] = field(
        default="paper", validator=in_(("paper", "released")), metadata=help("the paper's form or the released code's")
    )
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
    second_view: bool | None = _switch("pairs of a second view of the images, not of the one that labels train")
    crops: tuple[float, ...] = field(
        default=(1.0, 1.2, 1.5),
        validator=deep_iterable(ge(1.0)),
        metadata=help("the second view's windows: enlargements to choose from; empty: the whole image"),
    )
    segmentation_as: Literal["probabilities", "samples"] | None = _switch(
        "predicted classes as probabilities, or as one-hot samples", "probabilities", "samples"
    )
    sample_for: Literal["task", "pair"] | None = _switch(
        "classes are sampled once per task, or anew for every pair of a prediction", "task", "pair"
    )
    depth_as: Literal["metres", "share"] | None = _switch(
        "depth as it is, or as a share of its largest value in the image", "metres", "share"
    )
    normals_as: Literal["unit", "positive"] | None = _switch("normals as they are, or (n + 1) / 2", "unit", "positive")
    mask_invalid: bool | None = _switch("invalid pixels of a label take the prediction, not zeros")
    per_unlabelled: bool | None = _switch("divide a sample's pairs by its number of tasks without a label")
    film: Place | None = _switch("FiLM behind each convolution or behind the norm that follows", "convolution", "norm")
    statistics: Literal["batch", "sample"] | None = _switch(
        "m's norm: the backbone's kind, or each map by itself", "batch", "sample", check=[_film_survives]
    )
    per_location: bool | None = _switch("the mean of distances per location, not one over the whole embedding")

    def says(self, name: str) -> Any:
        """A switch's value: its own, or the variant's."""
        own = getattr(self, name)
        return _SWITCHES[name][self.variant == "released"] if own is None else own

    about = About(
        formula=(
            "weight · (1/B) Σ_x 1/|U_x| Σ_{s∈U_x, t∈T_x} [d(m(ŷ^s; ϑ^st), m(y^t; ϑ^st)) + feature_weight · "
            "(distances of both to ⟨f⟩)], d = 1 − cosine"
        ),
        source=(
            "Li, Liu, Bilen, Learning Multiple Dense Prediction Tasks from Partially Annotated Data, CVPR 2022; "
            "as Eq. 3 of Nishi et al., CVPR 2024"
        ),
        cost=(
            "|T|·|U| pairs of half-network passes per image in one batch: four for three tasks and one label; "
            "quadratic in K where half the labels are there"
        ),
        departs=(
            "Eq. 3 prints ŷ^t and is read as ŷ^s; what the text leaves open is reconstructed (docs/methods/mtpsl.md)"
        ),
    )

    @property
    def views(self) -> int:
        return 2 if self.says("second_view") else 1

    @hookimpl
    def setup(self, name: str, tasks: Tasks, backbone: nn.Module, labelled: Tensor | None) -> None:
        self.paired = tasks.choose_dense(self.tasks, name, "pairs need")
        networks = Networks.of(backbone)
        columns = None if labelled is None else labelled[:, [tasks.position(t) for t in self.paired.names]]
        self.per_sample = most_pairs(len(self.paired), columns)
        self.source: Tensor
        self.target: Tensor
        for end, positions in zip(("source", "target"), ordered_pairs(len(self.paired)), strict=True):
            self.register_buffer(end, positions, persistent=False)
        self.forms = Forms(**{f: self.says(f) for f in Forms.__annotations__})
        self._count_draws(most_labels(len(self.paired), columns))
        norm: Norm = "instance" if self.says("statistics") == "sample" else networks.norm
        channels = [task.label_channels for task in self.paired]
        self.m = PairSpaces(channels, networks, norm, self.says("film"), self.width, self.bottleneck)
        self.m.to(memory_format=torch.channels_last)

    def _count_draws(self, most: int) -> None:
        """How many maps of each task enter m, and how many are before its first.

        :param most: labels of a sample, each of which makes a pair with a prediction of that sample
        """
        self.draws: Tensor
        self.before: Tensor
        draws = torch.tensor([self._draws_of(task, most) for task in self.paired])
        self.register_buffer("draws", draws, persistent=False)
        self.register_buffer("before", draws.cumsum(0) - draws, persistent=False)
        self.counts = draws.tolist()

    def _draws_of(self, task: Task, most: int) -> int:
        sampled = isinstance(task, Segmentation) and self.says("segmentation_as") == "samples"
        return most if sampled and self.says("sample_for") == "pair" else 1

    @hookimpl
    def parameter_groups(self) -> list[dict[str, Any]]:
        rates = {"lr": self.film_learning_rate, "weight_decay": self.film_weight_decay}
        return [{"params": self.m.film_parameters(), **rates}]

    @hookimpl
    def count_views(self) -> int:
        return self.views

    @hookimpl
    def choose_windows(self, views: int, samples: int, generator: torch.Generator) -> Tensor | None:
        return draw_windows(views, samples, self.crops, generator) if self.views == 2 and self.crops else None

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        labelled = self._labelled(step)
        places = placed(labelled, self.source, self.target, self.per_sample * len(labelled))
        source, target = self._embeddings(step, labelled, places)
        features = anchor(step, self.views - 1, source).index_select(0, places.sample)
        apart = self._distance(source, target)
        from_features = self._distance(source, features) + self._distance(target, features)
        shares = self._shares(labelled, places, apart.dtype)
        step.log("latent_distance", (apart * places.used).sum() / places.used.sum().clamp(min=1))
        step.log("latent_cosine", spread(target.detach(), places, len(labelled)))
        step.log("pairs", places.used.sum() / len(labelled))
        return {
            "distance": self.weight * (shares * apart).sum(),
            "features": self.weight * self.feature_weight * (shares * from_features).sum(),
        }

    def _labelled(self, step: Step) -> Tensor:
        """Which samples carry the labels of which paired tasks, bool (B, K)."""
        return torch.stack([step.labelled[:, step.tasks.position(t)] for t in self.paired.names], 1)

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        return cosine(a, b, self.says("per_location"))

    def _embeddings(self, step: Step, labelled: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """m(ŷ^s) and m(y^t), each (S, C, h, w), of one pass."""
        maps = self._maps(step, labelled)
        s = self.source[places.pair]
        t = self.target[places.pair]
        # a sample's pairs of one s have different t: the n-th of its labels takes the n-th draw of ŷ^s
        number = (labelled.long().cumsum(1)[places.sample, t] - 1).clamp(min=0)
        draw = torch.minimum(number, self.draws[s] - 1)
        samples = len(labelled)
        sources = (self.before[s] + draw) * samples + places.sample
        targets = self.before[t] * samples + places.sample
        both = self.m(maps, torch.cat((sources, targets)), places.pair.repeat(2))
        source, target = at_least_float32(both).chunk(2)
        return source, target

    def _maps(self, step: Step, labelled: Tensor) -> list[Tensor]:
        """What enters m of each task: its draws one after another, (draws·B, O_k, H, W)."""
        view = self.views - 1
        targets = step.targets_of(view)
        # a sample without any label is in no pair, but batch norm in m's input layers sees it
        has_pair = labelled.any(1)[:, None, None, None]
        maps = []
        for task, draws in zip(self.paired, self.counts, strict=True):
            drawn = [known_or_predicted(step, task, view, targets[task.name], self.forms) for _ in range(draws)]
            entering = torch.cat([torch.where(has_pair, x, x.detach()) for x in drawn])
            maps.append(entering.contiguous(memory_format=torch.channels_last))
        return maps

    def _shares(self, labelled: Tensor, places: Places, dtype: torch.dtype) -> Tensor:
        """1 / (B · |U_x|), or 1 / B, of the places that count, 0 of the others; (S,)."""
        unlabelled = (~labelled).sum(1)[places.sample].clamp(min=1)
        divisor = unlabelled if self.says("per_unlabelled") else torch.ones_like(unlabelled)
        return places.used.to(dtype) / (divisor * len(labelled))
