"""MTPSL as a plugin.

Shape letters: B samples, K tasks, S places for pairs, C channels of the embeddings, h and w their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from attrs import field
from attrs.validators import deep_iterable, ge, gt, in_, optional
from torch import Tensor, nn

from mtl_core import About, MtlError, Step, Tasks, draw_windows, help, hookimpl, plugin
from mtl_mtpsl.distances import anchor, cosine, spread
from mtl_mtpsl.maps import Forms, full, known_or_predicted
from mtl_mtpsl.pairs import Places, most_pairs, ordered_pairs, placed
from mtl_mtpsl.spaces import PairSpaces, Place
from mtl_nn import Networks, Norm

SWITCHES: dict[str, tuple[Any, Any]] = {
    "second_view": (False, True),
    "segmentation_as": ("probabilities", "samples"),
    "depth_as": ("metres", "share"),
    "normals_as": ("unit", "positive"),
    "mask_invalid": (True, False),
    "per_unlabelled": (True, False),
    "film": ("convolution", "norm"),
    "statistics": ("batch", "sample"),
    "per_location": (False, True),
}
"""What ``variant`` decides: option → (paper, released)."""


def switch(text: str, *values: str, check: Sequence[Any] = ()) -> Any:
    """An option that follows the variant unless it is set."""
    known = optional(in_(values or (True, False)))
    return field(default=None, validator=[known, *check], metadata=help(f"{text}; none: as the variant"))


def film_survives(instance: Any, attribute: Any, value: object) -> None:
    if instance.says("statistics") == "sample" and instance.says("film") == "convolution":
        raise ValueError('"sample" takes away what FiLM does before the norm; use film = "norm"')


@plugin
class MTPSL(nn.Module):
    """Cross-task consistency: what is predicted for one task must agree with another's label in their joint space.

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
    second_view: bool | None = switch("pairs of a second view of the images, not of the one that labels train")
    crops: tuple[float, ...] = field(
        default=(1.0, 1.2, 1.5),
        validator=deep_iterable(ge(1.0)),
        metadata=help("the second view's windows: enlargements to choose from; empty: the whole image"),
    )
    segmentation_as: Literal["probabilities", "samples"] | None = switch(
        "predicted classes as probabilities, or as one-hot samples", "probabilities", "samples"
    )
    depth_as: Literal["metres", "share"] | None = switch(
        "depth as it is, or as a share of its largest value in the image", "metres", "share"
    )
    normals_as: Literal["unit", "positive"] | None = switch("normals as they are, or (n + 1) / 2", "unit", "positive")
    mask_invalid: bool | None = switch("invalid pixels of a label take the prediction, not zeros")
    per_unlabelled: bool | None = switch("divide a sample's pairs by its number of tasks without a label")
    film: Place | None = switch("FiLM behind each convolution or behind the norm that follows", "convolution", "norm")
    statistics: Literal["batch", "sample"] | None = switch(
        "m's norm: the backbone's kind, or each map by itself", "batch", "sample", check=[film_survives]
    )
    per_location: bool | None = switch("the mean of distances per location, not one over the whole embedding")

    def says(self, name: str) -> Any:
        """A switch's value: its own, or the variant's."""
        own = getattr(self, name)
        return SWITCHES[name][self.variant == "released"] if own is None else own

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
        self.paired, networks = chosen(name, tasks, self.tasks), Networks.of(backbone)
        columns = None if labelled is None else labelled[:, [tasks.position(t) for t in self.paired.names]]
        self.per_sample = most_pairs(len(self.paired), columns)
        self.source: Tensor
        self.target: Tensor
        for end, positions in zip(("source", "target"), ordered_pairs(len(self.paired)), strict=True):
            self.register_buffer(end, positions, persistent=False)
        self.forms = Forms(**{f: self.says(f) for f in Forms.__annotations__})
        norm: Norm = "instance" if self.says("statistics") == "sample" else networks.norm
        channels = [task.label_channels for task in self.paired]
        self.m = PairSpaces(channels, networks, norm, self.says("film"), self.width, self.bottleneck)
        self.m.to(memory_format=torch.channels_last)

    @hookimpl
    def parameter_groups(self) -> list[dict[str, Any]]:
        rates = {"lr": self.film_learning_rate, "weight_decay": self.film_weight_decay}
        return [{"params": self.m.film_parameters(), **rates}]

    @hookimpl
    def choose_windows(self, views: int, samples: int, generator: torch.Generator) -> Tensor | None:
        return draw_windows(views, samples, self.crops, generator) if self.views == 2 and self.crops else None

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        labelled = self.labelled(step)
        places = placed(labelled, self.source, self.target, self.per_sample * len(labelled))
        source, target = self.embeddings(step, places)
        features = anchor(step, self.views - 1, source).index_select(0, places.sample)
        apart = self.distance(source, target)
        from_features = self.distance(source, features) + self.distance(target, features)
        shares = self.shares(labelled, places, apart.dtype)
        step.log("latent_distance", (apart * places.used).sum() / places.used.sum().clamp(min=1))
        step.log("latent_cosine", spread(target.detach(), places, len(labelled)))
        step.log("pairs", places.used.sum() / len(labelled))
        return {
            "distance": self.weight * (shares * apart).sum(),
            "features": self.weight * self.feature_weight * (shares * from_features).sum(),
        }

    def labelled(self, step: Step) -> Tensor:
        """Which samples carry the labels of which paired tasks, bool (B, K)."""
        return torch.stack([step.labelled[:, step.tasks.position(t)] for t in self.paired.names], 1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return cosine(a, b, self.says("per_location"))

    def embeddings(self, step: Step, places: Places) -> tuple[Tensor, Tensor]:
        """m(ŷ^s) and m(y^t), each (S, C, h, w), of one pass."""
        view = self.views - 1
        targets = step.targets_of(view)
        maps = [known_or_predicted(step, task, view, targets[task.name], self.forms) for task in self.paired]
        # a sample without any label is in no pair, but batch norm in m's input layers sees it
        has_pair = self.labelled(step).any(1)[:, None, None, None]
        maps = [torch.where(has_pair, x, x.detach()).contiguous(memory_format=torch.channels_last) for x in maps]
        samples = len(step.labelled)
        wanted = [tasks[places.pair] * samples + places.sample for tasks in (self.source, self.target)]
        source, target = full(self.m(maps, torch.cat(wanted), places.pair.repeat(2))).chunk(2)
        return source, target

    def shares(self, labelled: Tensor, places: Places, dtype: torch.dtype) -> Tensor:
        """1 / (B · |U_x|), or 1 / B, of the places that count, 0 of the others; (S,)."""
        unlabelled = (~labelled).sum(1)[places.sample].clamp(min=1)
        divisor = unlabelled if self.says("per_unlabelled") else torch.ones_like(unlabelled)
        return places.used.to(dtype) / (divisor * len(labelled))


def chosen(name: str, tasks: Tasks, names: tuple[str, ...]) -> Tasks:
    """The tasks that are paired: two or more, all dense."""
    selected = tasks.choose(names, f"{name}.tasks") if names else tasks
    flat = [task.name for task in selected if not task.dense]
    if flat:
        raise MtlError(
            f"{name}: task {flat[0]!r} has one value per image and cannot be mapped like an image;"
            f" leave it out: tasks = {[t.name for t in selected if t.dense]}"
        )
    if len(selected) < 2:
        raise MtlError(f"{name}: pairs need two tasks, found {', '.join(selected.names)}; remove the plugin")
    return selected
