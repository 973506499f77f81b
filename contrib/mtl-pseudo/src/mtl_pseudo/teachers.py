"""Models that label images.

Shape letters: B samples, C classes, H and W image size, h and w that of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
import segmentation_models_pytorch
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core import DataError, MtlError, Segmentation, Task, nearest
from mtl_pseudo import decide
from mtl_pseudo.specs import Spec
from mtl_pseudo.tasks import SoftClassification, TokenLabels
from mtl_pseudo.weights import digest, load_weights

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of RGB in 0..1."""
_Labels = dict[str, Tensor]
"""Array → its rows of a batch; an array is named ``TASK`` or ``TASK.PART``."""


class Teacher(Protocol):
    """A model that gives labels of some tasks."""

    @property
    def tasks(self) -> Sequence[Task]:
        """Known without the weights."""

    def digest(self) -> str:
        """Of the model's weights."""

    def load(self, device: torch.device) -> None:
        """Make the model, fill it and bring it to a device."""

    def label(self, images: Tensor) -> _Labels:
        """Labels of images, float (B, 3, H, W) in 0..1 on the device; on the CPU."""


@attrs.define
class _Model:
    """A model of a library, with weights from a file.

    :param spec: its table
    :param kind: of its labels
    :param names: of its classes, as far as they are known
    :param channels: C
    """

    spec: Spec
    kind: str
    channels: int
    names: tuple[str, ...] = ()
    network: Any = None
    device: torch.device = attrs.field(factory=lambda: torch.device("cpu"))

    @property
    def tasks(self) -> Sequence[Task]:
        about: dict[str, Any] = {"name": self.spec.name, "channels": self.channels, "classes": self.names}
        if self.kind == "soft":
            return [SoftClassification(**about)]
        if self.kind == "tokens":
            return [TokenLabels(top=min(self.spec.top, self.channels), **about)]
        return [Segmentation(**about)]

    def digest(self) -> str:
        return digest(self.spec.file)

    def load(self, device: torch.device) -> None:
        self.network = self.made()
        self.device = device
        load_weights(self.network, self.spec.file, self.spec.model)
        self.network.eval().to(device)

    def made(self) -> nn.Module:
        raise NotImplementedError

    def normalised(self, images: Tensor) -> Tensor:
        """Images at the model's size, with mean and deviation taken out."""
        size = self.input_size()
        mean, std = self.colours()
        if size is not None and tuple(images.shape[-2:]) != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)
        return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]

    def input_size(self) -> tuple[int, int] | None:
        return self.spec.size

    def colours(self) -> tuple[Sequence[float], Sequence[float]]:
        return self.spec.mean or _IMAGENET[0], self.spec.std or _IMAGENET[1]

    def label(self, images: Tensor) -> _Labels:
        """Labels of images.

        :raises MtlError: the model cannot take them, or gives something else than expected
        """
        try:
            return self.labels_of(images)
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".!")
            raise MtlError(
                f'pseudo: "{self.spec.model}" cannot label {len(images)} images of {images.shape[-2]} ×'
                f" {images.shape[-1]} pixels: {reason}; set `size` of plugins.pseudo.sources.{self.spec.name}, or lower"
                " plugins.pseudo.batch_size"
            ) from error

    def labels_of(self, images: Tensor) -> _Labels:
        name = self.spec.name
        size = (images.shape[-2], images.shape[-1])
        if self.kind == "masks":
            return {name: decide.masks(self.logits(images), size, self.spec.score).short().cpu()}
        if self.kind == "soft":
            return {name: decide.distributions(self.logits(images)).cpu()}
        classes, shares = decide.tokens(self.places(images), min(self.spec.top, self.channels))
        return {f"{name}.classes": classes.short().cpu(), f"{name}.shares": shares.cpu()}

    def logits(self, images: Tensor) -> Tensor:
        """(B, C) or (B, C, …)"""
        given = self.network(self.normalised(images))
        found: Tensor = given["out"] if isinstance(given, Mapping) else given
        wanted = 4 if self.kind == "masks" else 2
        if found.ndim != wanted or found.shape[1] != self.channels:
            raise MtlError(
                f'"{self.spec.model}" gives {tuple(found.shape)} for {len(images)} images; expected'
                f" {'a class per pixel' if wanted == 4 else 'a class per image'} and {self.channels} classes; set"
                " `labels` or `classes`"
            )
        return found

    def places(self, images: Tensor) -> Tensor:
        """Logits at every place (B, C, h, w)."""
        raise NotImplementedError


class _TorchvisionModel(_Model):
    def made(self) -> nn.Module:
        options: dict[str, Any] = {"weights": None}
        if self.kind == "masks":
            options["weights_backbone"] = None
            options |= {"aux_loss": True} if self._has_auxiliary() else {}
        if self.spec.classes:
            options["num_classes"] = self.spec.classes
        made: nn.Module = torchvision.models.get_model(self.spec.of_library, **options)
        return made

    def _has_auxiliary(self) -> bool:
        """Published weights of segmentation models carry the classifier that helped in training."""
        if _is_detector(self.spec.of_library) or not self.spec.file.is_file():
            return False
        from mtl_pseudo.weights import read

        return any(key.startswith("aux_classifier.") for key in read(self.spec.file, self.spec.model))

    def labels_of(self, images: Tensor) -> _Labels:
        if not _is_detector(self.spec.of_library):
            return super().labels_of(images)
        size = (images.shape[-2], images.shape[-1])
        found = self.network(list(images))  # a detector resizes and normalises by itself
        return {self.spec.name: decide.instance_masks(found, size, self.spec.score, self.numbers()).short()}

    def numbers(self) -> dict[int, int]:
        """A detector's class → ours: published ones count a background and numbers that no class has."""
        kept = _detector_classes(self.spec)
        return {number: place for place, number in enumerate(kept)}


def _categories(name: str) -> list[str]:
    """The classes of a model's published weights."""
    return list(next(iter(torchvision.models.get_model_weights(name))).meta["categories"]) if _has_weights(name) else []


def _has_weights(name: str) -> bool:
    return len(torchvision.models.get_model_weights(name)) > 0


def _detector_classes(spec: Spec) -> list[int]:
    """The numbers of a detector's classes; 0 is its background."""
    if spec.classes:
        return list(range(1, spec.classes))
    return [number for number, name in enumerate(_categories(spec.of_library)) if number and name != "N/A"]


def _is_detector(name: str) -> bool:
    return name.startswith(("maskrcnn", "fasterrcnn", "keypointrcnn", "retinanet", "fcos", "ssd"))


def _torchvision_model(spec: Spec) -> _Model:
    name = spec.of_library
    known = torchvision.models.list_models()
    if name not in known or (_is_detector(name) and not name.startswith("maskrcnn")):
        usable = [n for n in known if not _is_detector(n) or n.startswith("maskrcnn")]
        raise DataError(
            f'pseudo: torchvision has no model "{name}" that gives classes{nearest(name, usable)} (examples:'
            " deeplabv3_resnet50, maskrcnn_resnet50_fpn, resnet50)"
        )
    names = _categories(name)
    if _is_detector(name):
        kept = _detector_classes(spec)
        found = _TorchvisionModel(spec, "masks", len(kept), () if spec.classes else tuple(names[n] for n in kept))
    else:
        kind = "masks" if name in torchvision.models.list_models(torchvision.models.segmentation) else "soft"
        count = spec.classes or len(names)
        found = _TorchvisionModel(spec, kind, count, tuple(names) if count == len(names) else ())
    return _fitting(found)


def _fitting(model: _Model) -> _Model:
    """:raises DataError: the model cannot give the labels that are asked for"""
    wanted = model.spec.labels or model.kind
    if wanted != model.kind and not (model.kind == "soft" and wanted == "tokens"):
        raise DataError(f'pseudo: "{model.spec.model}" gives {model.kind}, and not {wanted}; leave `labels` out')
    model.kind = wanted
    return model


class _TimmModel(_Model):
    def made(self) -> nn.Module:
        options: dict[str, Any] = {"num_classes": self.spec.classes} if self.spec.classes else {}
        made: nn.Module = timm.create_model(self.spec.of_library, pretrained=False, **options)
        return made

    def config(self) -> dict[str, Any]:
        """Size, mean and deviation of the images that the model was trained with."""
        about = self.about()
        usual = {"input_size": (3, 224, 224), "mean": _IMAGENET[0], "std": _IMAGENET[1]}
        return {key: about.get(key) or value for key, value in usual.items()}

    def about(self) -> dict[str, Any]:
        """What timm knows of the model's published weights."""
        found: Any = timm.get_pretrained_cfg(self.spec.of_library)
        about: dict[str, Any] = {} if found is None else found.to_dict()
        return about

    def input_size(self) -> tuple[int, int] | None:
        height, width = self.config()["input_size"][1:]
        return self.spec.size or (height, width)

    def colours(self) -> tuple[Sequence[float], Sequence[float]]:
        config = self.config()
        return self.spec.mean or config["mean"], self.spec.std or config["std"]

    def places(self, images: Tensor) -> Tensor:
        """The classifier at every place of the last features, each taken for an image of one place."""
        network = self.network
        given = self.normalised(images)
        features = network.forward_features(given)
        if features.ndim == 3:
            features = features[:, getattr(network, "num_prefix_tokens", 0) :]
            height, width = _token_grid(network, given, features.shape[1], self.spec.model)
            each = features.reshape(-1, 1, features.shape[-1])
        elif features.shape[1] == network.num_features:
            height, width = features.shape[-2:]
            each = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1], 1, 1)
        else:
            height, width = features.shape[1:3]
            each = features.reshape(-1, 1, 1, features.shape[-1])
        logits: Tensor = network.forward_head(each)
        return logits.view(len(images), height, width, -1).permute(0, 3, 1, 2)


def _token_grid(network: Any, images: Tensor, count: int, name: str) -> tuple[int, int]:
    """How a transformer's tokens lie in images (B, 3, H, W): one for each patch."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None) or (1, 1)
    height = images.shape[-2] // patch[0]
    width = images.shape[-1] // patch[1]
    if height * width != count:
        raise MtlError(f'pseudo: how the {count} tokens of "{name}" lie in an image is not known; choose another model')
    return height, width


def _timm_model(spec: Spec) -> _Model:
    name = spec.of_library
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise DataError(f'pseudo: timm has no model "{name}"{nearest(name, known)} (example: tf_efficientnet_lite0)')
    found = _TimmModel(spec, "soft", spec.classes or 1000)
    found.channels = spec.classes or int(found.about().get("num_classes", 0)) or 1000
    return _fitting(found)


class _SMPModel(_Model):
    def made(self) -> nn.Module:
        architecture, _, encoder = self.spec.of_library.partition(":")
        try:
            made: nn.Module = segmentation_models_pytorch.create_model(
                architecture, encoder or "resnet34", encoder_weights=None, classes=self.spec.classes
            )
        except (KeyError, ValueError) as error:
            raise DataError(
                f'pseudo: segmentation-models-pytorch cannot make "{self.spec.of_library}" ({error}); expected'
                " ARCHITECTURE:ENCODER such as unet:resnet34"
            ) from error
        return made

    def logits(self, images: Tensor) -> Tensor:
        """Its networks take sizes that are multiples of 32: the rest is filled with the border's pixels."""
        height, width = images.shape[-2:] if self.spec.size is None else self.spec.size
        plain = self.normalised(images)
        filled = F.pad(plain, (0, -width % 32, 0, -height % 32), mode="replicate")
        found: Tensor = self.network(filled)
        return found[..., :height, :width]


def _smp_model(spec: Spec) -> _Model:
    return _fitting(_SMPModel(spec, "masks", spec.classes))


def teacher_for(spec: Spec) -> Teacher:
    """:raises DataError: there is no such model, or it cannot give such labels"""
    if spec.library == "run":
        from mtl_pseudo.runs import RunTeacher

        return RunTeacher(spec)
    makers = {"torchvision": _torchvision_model, "timm": _timm_model, "smp": _smp_model}
    return makers[spec.library](spec)
