"""JTR's options: the paper's, and a switch for each line in which the authors' released code differs.

A switch that is none is set by ``variant``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs
from attrs import field
from attrs.validators import ge, gt, in_, le, lt, optional

from mtl_core import help
from mtl_jtr.distances import Kind

_SegmentationAs = Literal["probabilities", "samples"]
_DepthAs = Literal["metres", "cdf"]
_NormalsAs = Literal["unit", "positive"]
_Validity = Literal["own", "shared"]
_ReconstructionAs = Literal["losses", "counts"]
_Statistics = Literal["batch", "sample"]


@attrs.frozen
class Switches:
    """The paper's form; :data:`_RELEASED` is the released code's."""

    separate: bool = False
    crops: tuple[float, ...] = ()
    detach_labelled: bool = False
    segmentation_as: _SegmentationAs = "probabilities"
    depth_as: _DepthAs = "metres"
    normals_as: _NormalsAs = "unit"
    validity: _Validity = "own"
    reconstruction_as: _ReconstructionAs = "losses"
    per_location: bool = False
    statistics: _Statistics = "batch"

    @property
    def as_in_the_paper(self) -> bool:
        """Whether stacks and terms are the paper's; the latents' network and distance may differ."""
        return attrs.evolve(self, crops=(), per_location=False, statistics="batch") == _PAPER


_PAPER = Switches()
_RELEASED = Switches(
    separate=True,
    crops=(1.0, 1.2, 1.5),
    detach_labelled=True,
    segmentation_as="samples",
    depth_as="cdf",
    normals_as="positive",
    validity="shared",
    reconstruction_as="counts",
    per_location=True,
    statistics="sample",
)


def _switches(options: Any) -> Switches:
    """Every switch: its own value, or the variant's."""
    base = _RELEASED if options.variant == "released" else _PAPER
    given = {a.name: getattr(options, a.name) for a in attrs.fields(Switches)}
    return attrs.evolve(base, **{name: value for name, value in given.items() if value is not None})


def _trained_by_something(instance: Any, attribute: Any, value: str) -> None:
    if value == "reconstruction" and not instance.reconstruct:
        raise ValueError('"reconstruction" with reconstruct = false leaves nothing that trains g; use "both"')


def _one_use_of_views(instance: Any, attribute: Any, value: str) -> None:
    if value == "consistency" and _switches(instance).separate:
        raise ValueError('"consistency" compares two views of one geometry; it needs separate = false')


def _views_to_crop(instance: Any, attribute: Any, value: tuple[float, ...] | None) -> None:
    if value and min(value) < 1:
        raise ValueError(f"must all be >= 1, found {list(value)}")
    if value and not _switches(instance).separate:
        raise ValueError("crops are shown in views 1 and 2, which separate = true adds")


def _of_the_paper(instance: Any, attribute: Any, value: object) -> None:
    """Refuse a form beside the paper's together with the released code's stacks or terms."""
    if value != attribute.default and not _switches(instance).as_in_the_paper:
        raise ValueError(
            f'works with the paper\'s stacks and terms only, found {value!r}; leave out variant = "released" and'
            " switches of it"
        )


def _with_reconstruction(instance: Any, attribute: Any, value: float) -> None:
    if value and not instance.reconstruct:
        raise ValueError("needs a g that learns to reconstruct; use reconstruct = true")


def _masks_to_learn_from(instance: Any, attribute: Any, value: float) -> None:
    if value and instance.pseudo_from == "labels" and not instance.masked:
        raise ValueError(
            'makes g complete stacks with maps left out, which it never learned; set masked, or pseudo_from = "stack"'
        )


def _one_of(*values: str) -> Callable[[Any, Any, Any], Any]:
    return optional(in_(values))


@attrs.define(slots=False, eq=False, kw_only=True, repr=False, on_setattr=attrs.setters.NO_OP)
class Options:
    """The options of :class:`mtl_jtr.JTR`, and what follows from them alone."""

    c_dist: float = field(default=4.0, validator=ge(0.0), metadata=help("coefficient of the distance"))
    c_recon: float = field(default=2.0, validator=ge(0.0), metadata=help("coefficient of the reconstruction"))
    distance: Kind = field(default="cosine", validator=in_(("cosine", "l1", "l2")), metadata=help("L_Dist (Tab. 16)"))
    centred: bool = field(default=False, metadata=help("subtract the batch's mean latent before the distance"))
    reconstruct: bool = field(default=True, metadata=help("train g to reconstruct the stacks (off: Tab. 8)"))
    train_encoder_on: Literal["both", "reconstruction"] = field(
        default="both",
        validator=[in_(("both", "reconstruction")), _trained_by_something],
        metadata=help("which terms train g's encoder; the paper: both"),
    )
    network: Literal["segnet", "backbone", "averages", "smooth"] = field(
        default="segnet",
        validator=in_(("segnet", "backbone", "averages", "smooth")),
        metadata=help(
            "g: a SegNet, an autoencoder of the backbone's kind; not in the paper: averages of blocks, smooth"
            " convolutions"
        ),
    )
    unpool: Literal["indices", "upsample"] = field(
        default="indices", validator=in_(("indices", "upsample")), metadata=help("how g's decoder enlarges (SegNet)")
    )
    bottleneck: int | None = field(
        default=None, validator=optional(gt(0)), metadata=help("channels of the latent (Tab. 17); none: 8 · width")
    )
    width: int | None = field(
        default=None, validator=optional(gt(0)), metadata=help("channels of g's first level; none: the backbone's")
    )
    channels_last: bool = field(default=True, metadata=help("memory format of g: colours of a pixel side by side"))
    checkpoint: bool = field(
        default=False, metadata=help("g's encoder keeps no activations and encodes again backwards: memory for time")
    )
    depth_scale: float = field(default=1.0, validator=gt(0.0), metadata=help("metres per unit of depth in the stacks"))
    tasks: tuple[str, ...] = field(default=(), metadata=help("tasks in the stacks; empty: all"))
    unlabelled: Literal["ignore", "consistency"] = field(
        default="ignore",
        validator=[in_(("ignore", "consistency")), _one_use_of_views],
        metadata=help("samples without any label: no distance, or the distance of two views (Sec. 4.4)"),
    )
    variant: Literal["paper", "released"] = field(
        default="paper",
        validator=in_(("paper", "released")),
        metadata=help("the paper's equations, or what the authors' released code computes: sets what follows"),
    )
    separate: bool | None = field(
        default=None, metadata=help("view 1's distance trains the network alone, view 2's g alone")
    )
    crops: tuple[float, ...] | None = field(
        default=None,
        validator=_views_to_crop,
        metadata=help("enlargements of views 1 and 2, windows of view 0; empty: whole images"),
    )
    detach_labelled: bool | None = field(
        default=None, metadata=help("the distance reaches the heads of tasks without a label only")
    )
    segmentation_as: _SegmentationAs | None = field(
        default=None, validator=_one_of("probabilities", "samples"), metadata=help("in the stacks: or Gumbel samples")
    )
    depth_as: _DepthAs | None = field(
        default=None, validator=_one_of("metres", "cdf"), metadata=help("in the stacks: or through a normal CDF")
    )
    normals_as: _NormalsAs | None = field(
        default=None, validator=_one_of("unit", "positive"), metadata=help("in the stacks: or (n + 1) / 2")
    )
    validity: _Validity | None = field(
        default=None,
        validator=_one_of("own", "shared"),
        metadata=help("invalid pixels take the prediction, or are empty where any label of the sample is invalid"),
    )
    reconstruction_as: _ReconstructionAs | None = field(
        default=None,
        validator=_one_of("losses", "counts"),
        metadata=help("the tasks' own losses, or sums over the number of non-zero target elements"),
    )
    per_location: bool | None = field(
        default=None, metadata=help("distance per location of the latent, not over all of it")
    )
    statistics: _Statistics | None = field(
        default=None, validator=_one_of("batch", "sample"), metadata=help("what g's batch norm sees at a time (SegNet)")
    )

    target: Literal["trained", "fixed"] = field(
        default="trained",
        validator=[in_(("trained", "fixed")), _of_the_paper],
        metadata=help("fixed: the distance moves Ŷ towards Y and leaves Y, its predictions and its latent as they are"),
    )
    ramp: float = field(
        default=0.0,
        validator=[ge(0.0), le(1.0)],
        metadata=help("share of the training over which c_dist and c_pseudo grow to their values; 0: none"),
    )
    ramp_as: Literal["sigmoid", "linear"] = field(
        default="sigmoid",
        validator=in_(("sigmoid", "linear")),
        metadata=help("how they grow: exp(-5 (1 - t)²), or t"),
    )
    masked: float = field(
        default=0.0,
        validator=[ge(0.0), lt(1.0), _with_reconstruction, _of_the_paper],
        metadata=help("probability with which a task's map is hidden from g where it learns to reconstruct"),
    )
    substitutes: Literal["network", "ema"] = field(
        default="network",
        validator=[in_(("network", "ema")), _of_the_paper],
        metadata=help("whose predictions stand in Y for missing labels: the network's, or those of its average"),
    )
    ema_decay: float = field(
        default=0.999, validator=[ge(0.0), lt(1.0)], metadata=help('of the average that substitutes = "ema" keeps')
    )
    c_pseudo: float = field(
        default=0.0,
        validator=[ge(0.0), _with_reconstruction, _masks_to_learn_from, _of_the_paper],
        metadata=help("coefficient of the losses of unlabelled predictions against what g makes of Y"),
    )
    pseudo_from: Literal["labels", "stack"] = field(
        default="labels",
        validator=in_(("labels", "stack")),
        metadata=help("what c_pseudo shows g: the sample's labels alone, or all of Y"),
    )

    @property
    def switches(self) -> Switches:
        return _switches(self)

    @property
    def views(self) -> int:
        """How many views of a batch are looked at."""
        if self.switches.separate:
            return 3
        return 2 if self.unlabelled == "consistency" else 1
