"""Models of every library, with weights from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from mtl_core import DataError, MtlError, Segmentation
from mtl_pseudo.specs import spec_of
from mtl_pseudo.tasks import SoftClassification, TokenLabels
from mtl_pseudo.teachers import _detector_classes, teacher_for

CPU = torch.device("cpu")


def teacher(name: str = "t", **table: Any) -> Any:
    return teacher_for(spec_of(name, table))


def saved(model: torch.nn.Module, path: Path) -> str:
    torch.save(model.state_dict(), path)
    return str(path)


def labels_of(made: Any, images: Tensor) -> dict[str, Tensor]:
    made.load(CPU)
    with torch.no_grad():
        found: dict[str, Tensor] = made.label(images)
    return found


def test_soft_labels_of_timm(resnet: Path) -> None:
    made = teacher(model="timm:test_resnet", weights=str(resnet), classes=7)
    assert made.tasks == [SoftClassification(name="t", channels=7)]
    images = torch.rand(3, 3, 40, 50)
    found = labels_of(made, images)
    plain = timm.create_model("test_resnet", num_classes=7).eval()
    plain.load_state_dict(torch.load(resnet, weights_only=True))
    assert made.input_size() == (160, 160)
    with torch.no_grad():
        expected = plain(made.normalised(images)).softmax(1)
    assert list(found) == ["t"]
    torch.testing.assert_close(found["t"], expected)


def test_images_are_normalised_as_the_model_was_trained() -> None:
    made = teacher(model="timm:tf_efficientnet_lite0", weights="x.pth")
    assert (tuple(made.colours()[0]), made.input_size()) == ((0.5, 0.5, 0.5), (224, 224))
    assert made.tasks[0].channels == 1000
    half = made.normalised(torch.full((1, 3, 8, 8), 0.5))
    assert half.shape == (1, 3, 224, 224)
    assert half.abs().max() < 1e-5
    own = teacher(model="timm:tf_efficientnet_lite0", weights="x.pth", mean=[0.1] * 3, std=[2.0] * 3, size=[8, 8])
    torch.testing.assert_close(own.normalised(torch.full((1, 3, 8, 8), 0.5)), torch.full((1, 3, 8, 8), 0.2))


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_nfnet", "test_convnext", "test_mambaout", "test_vit", "test_vit_relpos"]
)
def test_the_classifier_at_every_place(tmp_path: Path, name: str) -> None:
    """Features of every form: channels first or last, tokens with and without one of the whole image."""
    torch.manual_seed(0)
    weights = saved(timm.create_model(name, num_classes=7), tmp_path / "w.pth")
    made = teacher(model=f"timm:{name}", weights=weights, classes=7, labels="tokens", top=3)
    assert made.tasks == [TokenLabels(name="t", channels=7, top=3)]
    images = torch.rand(2, 3, 32, 48)
    found = labels_of(made, images)
    classes = found["t.classes"]
    shares = found["t.shares"]
    assert (classes.dtype, classes.shape, shares.shape) == (torch.int16, shares.shape, classes.shape)
    assert classes.shape[:2] == (2, 3)
    assert classes.shape[2] == classes.shape[3] > 3
    assert 0 <= classes.min() <= classes.max() < 7
    torch.testing.assert_close(shares.sum(1), torch.ones_like(shares[:, 0]))
    with torch.no_grad():
        assert torch.equal(made.places(images).argmax(1), classes[:, 0].long())


def test_tokens_of_images_that_are_no_squares(tmp_path: Path) -> None:
    weights = saved(timm.create_model("test_vit", num_classes=7), tmp_path / "w.pth")
    made = teacher(model="timm:test_vit", weights=weights, classes=7, labels="tokens", size=[64, 96])
    assert labels_of(made, torch.rand(1, 3, 32, 48))["t.classes"].shape == (1, 5, 4, 6)


def test_what_a_model_refuses_is_told(resnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(images: Tensor) -> Tensor:
        raise AssertionError("Input height (64) doesn't match model (160).")

    made = teacher(model="timm:test_resnet", weights=str(resnet), classes=7)
    made.load(CPU)
    monkeypatch.setattr(made.network, "forward", refuse)
    with pytest.raises(MtlError) as caught:
        made.label(torch.rand(2, 3, 32, 48))
    assert str(caught.value) == (
        'pseudo: "timm:test_resnet" cannot label 2 images of 32 × 48 pixels: Input height (64) doesn\'t match model'
        " (160); set `size` of plugins.pseudo.sources.t, or lower plugins.pseudo.batch_size"
    )


def test_places_of_a_pooling_network_average_to_its_answer(resnet: Path) -> None:
    """Pooling and a linear layer commute: the mean over the places is the image's logits."""
    made = teacher(model="timm:test_resnet", weights=str(resnet), classes=7, labels="tokens")
    made.load(CPU)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            made.places(images).mean((2, 3)), made.network(made.normalised(images)), atol=1e-4, rtol=1e-4
        )


def test_masks_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(
        "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=5
    ).eval()
    weights = saved(model, tmp_path / "w.pth")
    made = teacher(model="torchvision:lraspp_mobilenet_v3_large", weights=weights, classes=5, score=0.0)
    assert made.tasks == [Segmentation(name="t", channels=5)]
    images = torch.rand(2, 3, 48, 64)
    found = labels_of(made, images)["t"]
    with torch.no_grad():
        expected = model(made.normalised(images))["out"].argmax(1)
    assert found.dtype == torch.int16
    assert (found == expected).float().mean() > 0.99
    unsure = teacher(model="torchvision:lraspp_mobilenet_v3_large", weights=weights, classes=5, score=1.0)
    assert (labels_of(unsure, images)["t"] == -1).all()


def test_classes_of_published_weights_have_their_names() -> None:
    made = teacher(model="torchvision:deeplabv3_resnet50", weights="x.pth")
    assert (made.tasks[0].channels, made.tasks[0].classes[9]) == (21, "chair")
    assert teacher(model="torchvision:resnet50", weights="x.pth").tasks[0].classes[0] == "tench"
    assert isinstance(teacher(model="torchvision:resnet50", weights="x.pth").tasks[0], SoftClassification)


def test_a_detector_has_the_eighty_classes_of_coco() -> None:
    made = teacher(model="torchvision:maskrcnn_resnet50_fpn", weights="x.pth")
    (task,) = made.tasks
    assert (task.channels, task.classes[0], task.classes[-1]) == (80, "person", "toothbrush")
    assert "N/A" not in task.classes
    assert (made.numbers()[1], made.numbers()[13]) == (0, 11)  # 12 is no class: stop sign follows the fire hydrant
    assert 12 not in made.numbers()
    own = spec_of("t", {"model": "torchvision:maskrcnn_resnet50_fpn", "weights": "x", "classes": 4})
    assert _detector_classes(own) == [1, 2, 3]


def test_masks_of_smp_at_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = smp.create_model("fpn", "tu-test_resnet", encoder_weights=None, classes=4)
    weights = saved(model, tmp_path / "w.pth")
    made = teacher(model="smp:fpn:tu-test_resnet", weights=weights, classes=4, score=0.0)
    assert labels_of(made, torch.rand(2, 3, 33, 50))["t"].shape == (2, 33, 50)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"model": "torchvision:resnet5"},
            'torchvision has no model "resnet5" that gives classes; did you mean "resnet',
        ),
        ({"model": "torchvision:fasterrcnn_resnet50_fpn"}, "that gives classes"),
        ({"model": "timm:resnet5x"}, 'timm has no model "resnet5x"; did you mean "resnet'),
        (
            {"model": "timm:resnet50", "labels": "masks"},
            '"timm:resnet50" gives soft, and not masks; leave `labels` out',
        ),
        ({"model": "torchvision:fcn_resnet50", "labels": "soft"}, "gives masks, and not soft"),
    ],
)
def test_a_model_that_there_is_not(table: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        teacher(weights="x.pth", **table)
    assert message in str(caught.value)


def test_smp_says_what_it_cannot_make(tmp_path: Path) -> None:
    made = teacher(model="smp:unett:resnet18", weights=str(tmp_path), classes=3)
    with pytest.raises(DataError, match='segmentation-models-pytorch cannot make "unett:resnet18"'):
        made.load(CPU)


def test_weights_of_another_model(resnet: Path) -> None:
    made = teacher(model="timm:test_resnet", weights=str(resnet), classes=9)
    with pytest.raises(DataError, match=r'resnet\.pth: does not fit "timm:test_resnet": wrong shapes .*`classes`'):
        made.load(CPU)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; expected a local state dict"),
        (b"nothing", "cannot be read as a state dict"),
        ([1, 2], "holds a list; expected a state dict"),
    ],
)
def test_weights_that_are_no_weights(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=message):
        teacher(model="timm:test_resnet", weights=str(path), classes=7).load(CPU)


def test_wrapped_weights_and_safetensors(tmp_path: Path, resnet: Path) -> None:
    state = torch.load(resnet, weights_only=True)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pth")
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "a.safetensors")
    images = torch.rand(1, 3, 32, 32)
    found = []
    for path in (resnet, tmp_path / "a.pth", tmp_path / "a.safetensors"):
        found.append(labels_of(teacher(model="timm:test_resnet", weights=str(path), classes=7), images)["t"])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_classifier_is_no_source_of_masks(resnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = teacher(model="timm:test_resnet", weights=str(resnet), classes=7)
    made.load(CPU)
    made.kind = "masks"
    with pytest.raises(MtlError, match=r"gives \(1, 7\) for 1 images; expected a class per pixel and 7 classes"):
        made.label(torch.rand(1, 3, 32, 32))


def test_published_weights_may_have_a_further_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's fcn and deeplabv3 are published with the one that helped in training."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        torchvision.models, "get_model", lambda name, **options: asked.append(options) or torch.nn.Linear(1, 1)
    )
    for number, extra in enumerate(({}, {"aux_classifier.0.weight": torch.zeros(1)})):
        torch.save({"weight": torch.zeros(1, 1), **extra}, tmp_path / f"{number}.pth")
        teacher(model="torchvision:fcn_resnet50", weights=str(tmp_path / f"{number}.pth")).made()
    assert [options.get("aux_loss", False) for options in asked] == [False, True]
