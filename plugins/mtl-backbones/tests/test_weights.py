"""Weights from a local file, and every way in which such a file is wrong."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mtl_backbones import SMP
from mtl_backbones.standardise import IMAGENET
from mtl_core import DataError


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    torch.manual_seed(1)
    return SMP(encoder="resnet18").build_backbone(image_size=(32, 32), in_channels=3).encoder


@pytest.fixture
def state(encoder) -> dict[str, torch.Tensor]:
    return copy.deepcopy(dict(encoder.state_dict()))


def build(path, encoder="resnet18", partial=False):
    torch.manual_seed(2)
    return SMP(encoder=encoder, weights=str(path), partial_weights=partial).build_backbone(
        image_size=(32, 32), in_channels=3
    )


def saved(value: object, path: Path) -> Path:
    torch.save(value, path)
    return path


def assert_equal(backbone, state):
    found = backbone.encoder.state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state if key in found)
    assert len(found) > 100


def test_weights_of_the_file_are_used(tmp_path, state):
    assert_equal(build(saved(state, tmp_path / "a.pth")), state)


def test_safetensors(tmp_path, state):
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "a.safetensors")
    assert_equal(build(tmp_path / "a.safetensors"), state)


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "backbone."])
def test_prefix_of_a_wrapper_is_taken_off(tmp_path, state, prefix):
    wrapped = {f"{prefix}{key}": value for key, value in state.items()} | {"decoder.weight": torch.zeros(1)}
    assert_equal(build(saved({"state_dict": wrapped, "epoch": 3}, tmp_path / "a.pth")), state)


def test_classifier_in_the_file_is_left_out(tmp_path, state):
    assert_equal(
        build(saved(state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, tmp_path / "a")), state
    )


def test_timm_encoder_takes_names_with_and_without_its_prefix(tmp_path):
    own = SMP(encoder="tu-resnet18").build_backbone(image_size=(32, 32), in_channels=3).encoder.state_dict()
    bare = {key.removeprefix("model."): value + 1 for key, value in own.items()} | {"fc.bias": torch.zeros(9)}
    found = build(saved(bare, tmp_path / "a.pth"), "tu-resnet18").encoder.state_dict()
    assert all(torch.equal(found[f"model.{key}"], bare[key]) for key in bare if key != "fc.bias")


def test_images_are_normalised_as_in_imagenet(tmp_path, state):
    backbone = build(saved(state, tmp_path / "a.pth")).eval()
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, deviation = (torch.tensor(part).view(3, 1, 1) for part in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = backbone.encoder((x - mean) / deviation)
        torch.testing.assert_close(backbone(x)[-1], expected[-1])


def test_a_checkpoint_brings_the_normalisation_back(tmp_path, state):
    trained = build(saved(state, tmp_path / "a.pth"))
    fresh = SMP(encoder="resnet18").build_backbone(image_size=(32, 32), in_channels=3)
    fresh.load_state_dict(trained.state_dict())
    torch.testing.assert_close(fresh.mean.flatten(), torch.tensor(IMAGENET[0]))


class TestReport:
    def test_everything(self, tmp_path, state, caplog):
        path = saved(state | {"fc.weight": torch.zeros(1000, 512)}, tmp_path / "a.pth")
        build(path)
        assert caplog.messages == [f'{path} → encoder "resnet18": 100 of 100 tensors; left out fc.weight']

    def test_a_part_names_the_first_of_each_kind(self, tmp_path, state, caplog):
        missing = [f"layer4.1.bn{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")]
        kept = {key: value for key, value in state.items() if key not in missing}
        kept |= {"conv1.weight": torch.zeros(64, 1, 7, 7), "layer1.7.bias": torch.zeros(1)}
        backbone = build(saved(kept, tmp_path / "a.pth"), partial=True)
        (line,) = caplog.messages
        assert '"resnet18": 95 of 100 tensors; missing keys layer4.1.bn1.weight, layer4.1.bn1.bias, ' in line
        assert "and 1 more; unexpected keys layer1.7.bias; wrong shapes conv1.weight (64, 1, 7, 7), expected" in line
        found = backbone.encoder.state_dict()
        assert torch.equal(found["layer2.0.conv1.weight"], kept["layer2.0.conv1.weight"])
        assert found["conv1.weight"].shape == (64, 3, 7, 7)

    def test_counters_of_batch_norm_do_not_count(self, tmp_path, state, caplog):
        old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
        build(saved(old, tmp_path / "a.pth"))
        assert "100 of 100 tensors" in caplog.messages[0]


class TestErrors:
    def test_missing_file(self, tmp_path):
        with pytest.raises(DataError, match=r'gone\.pth: no such file.*"resnet18".*nothing is downloaded'):
            build(tmp_path / "gone.pth")

    def test_folder(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            build(tmp_path)

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"not a state dict at all"])
    def test_unreadable_file(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: cannot be read as a state dict \(.+\)"):
            build(tmp_path / name)

    def test_code_in_the_file_is_not_run(self, tmp_path):
        with pytest.raises(DataError, match="cannot be read as a state dict"):
            build(saved(Dangerous(), tmp_path / "a.pth"))

    @pytest.mark.parametrize(
        ("value", "found"), [([1, 2], "list"), ({"epoch": 3}, "dict with the keys epoch"), ({}, "dict")]
    )
    def test_no_state_dict(self, tmp_path, value, found):
        with pytest.raises(DataError, match=rf"a\.pth: holds a {found}.*expected a state dict"):
            build(saved(value, tmp_path / "a.pth"))

    def test_missing_keys_are_named(self, tmp_path, state):
        for key in ("conv1.weight", "layer4.1.bn2.bias"):
            del state[key]
        with pytest.raises(DataError, match=r"missing keys conv1\.weight, layer4\.1\.bn2\.bias;.*this very encoder"):
            build(saved(state, tmp_path / "a.pth"))

    def test_unexpected_keys_are_named(self, tmp_path, state):
        state |= {f"layer1.{n}.conv1.weight": torch.zeros(1) for n in (2, 3, 4, 5, 6)}
        with pytest.raises(DataError, match=r"unexpected keys layer1\.2\.conv1\.weight, .* and 2 more"):
            build(saved(state, tmp_path / "a.pth"))

    def test_wrong_shapes_are_named(self, tmp_path, state):
        state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
        with pytest.raises(DataError, match=r"conv1\.weight \(64, 1, 7, 7\), expected \(64, 3, 7, 7\)"):
            build(saved(state, tmp_path / "a.pth"))

    @pytest.mark.parametrize("partial", [False, True])
    def test_another_network(self, tmp_path, state, partial):
        with pytest.raises(
            DataError,
            match=r'does not fit the encoder "mobilenet_v2": missing keys.*no tensor matches.* conv1\.weight,',
        ):
            build(saved(state, tmp_path / "a.pth"), "mobilenet_v2", partial)


class Dangerous:
    def __reduce__(self):
        return (pytest.fail, ("the file's code was run",))
