"""SegNet and the networks made of its halves."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from mtl_core import MtlError
from mtl_nn import Autoencoder, Encoder, Latent, Networks, SegNet, SegNetHead
from mtl_nn.segnet import normalisation

CONVOLUTIONS = [
    *[(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)],
    *[(256, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512)],
    *[(64, 64), (64, 64), (128, 64), (64, 64), (256, 128), (128, 128), (128, 128)],
    *[(512, 256), (256, 256), (256, 256), (512, 512), (512, 512), (512, 512)],
]
"""(in, out) of every 3×3 convolution of the papers' network: encoder, then decoder from the finest level on."""

SIZES = [(32, 32), (33, 47), (63, 40), (64, 96), (95, 33)]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def by_hand(convolutions: list[tuple[int, int]]) -> int:
    """3×3 weights and a bias per output, scale and shift of batch norm."""
    return sum(9 * a * b + b + 2 * b for a, b in convolutions)


def images(*size: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))


class TestLayers:
    def test_convolutions_are_those_of_the_table(self) -> None:
        with torch.device("meta"):
            network = SegNet()
        found = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.in_channels, m.out_channels) for m in found] == CONVOLUTIONS
        assert all(m.kernel_size == (3, 3) and m.padding == (1, 1) and m.bias is not None for m in found)

    def test_parameter_count_at_full_width(self) -> None:
        with torch.device("meta"):
            assert count(SegNet()) == by_hand(CONVOLUTIONS) == 24_943_296

    def test_parameter_count_scales_with_width(self) -> None:
        scaled = [(a if a == 3 else a // 4, b // 4) for a, b in CONVOLUTIONS]
        assert count(SegNet(width=16)) == by_hand(scaled)

    def test_head_is_two_convolutions(self) -> None:
        assert count(SegNetHead(64, 13)) == (9 * 64 * 64 + 64) + (64 * 13 + 13)

    def test_head_is_affine(self) -> None:
        torch.manual_seed(0)
        head = SegNetHead(4, 3).double()
        a, b = torch.randn(2, 1, 4, 6, 5).double()
        zero = torch.zeros_like(a)
        torch.testing.assert_close(head(a + b) - head(b), head(a) - head(zero))

    def test_xavier_weights_zero_biases(self) -> None:
        torch.manual_seed(0)
        for module in SegNet(width=16).modules():
            if isinstance(module, nn.Conv2d):
                expected = (2 / (9 * (module.in_channels + module.out_channels))) ** 0.5
                assert module.weight.std().item() == pytest.approx(expected, rel=0.15)
                assert not module.bias.any()
            if isinstance(module, nn.BatchNorm2d):
                assert (module.weight == 1).all()
                assert not module.bias.any()

    @pytest.mark.parametrize("channels", [1, 3, 4, 6, 10, 16, 18, 24, 48, 64, 100, 512, 1024])
    def test_groups_divide_and_hold_four_channels(self, channels: int) -> None:
        groups = normalisation("group", channels).num_groups
        assert channels % groups == 0
        assert groups == 1 or channels // groups >= 4
        assert groups <= 32


class TestModulatedEncoder:
    def test_what_gives_nothing_new_changes_nothing(self) -> None:
        encoder = Encoder(3, 4)
        x = images(32, 64)
        same = encoder(x, after_conv=lambda number, y: y, after_norm=lambda number, y: y + 0)
        assert torch.equal(encoder(x).features, same.features)

    def test_every_convolution_is_numbered_and_sized(self) -> None:
        encoder = Encoder(3, 4, bottleneck=6)
        seen = []
        encoder(images(32, 64), after_conv=lambda number, y: (seen.append((number, y.shape[1])), y)[1])
        assert seen == list(enumerate(encoder.sizes))
        assert encoder.sizes == (4, 4, 8, 8, *[16] * 3, *[32] * 3, *[6] * 3)

    @pytest.mark.parametrize("place", ["after_conv", "after_norm"])
    def test_a_shift_before_the_norm_is_taken_away_and_one_behind_it_is_not(self, place: str) -> None:
        encoder = Encoder(3, 4).double()
        x = images(32, 64).double()
        moved = encoder(x, **{place: lambda number, y: y + 1.0}).features
        assert torch.allclose(moved, encoder(x).features) is (place == "after_conv")


class TestSegNet:
    def test_the_deepest_features_are_the_encoders(self) -> None:
        network = SegNet(3, 4, "group")
        x = images(64, 32)
        z, deepest = network.with_deepest(x)
        assert torch.equal(z, network(x))
        assert torch.equal(deepest, network.encoder(x).features)
        assert deepest.shape == (2, 32, 2, 1)

    @pytest.mark.parametrize("size", SIZES)
    def test_output_has_the_images_size(self, size: tuple[int, int]) -> None:
        network = SegNet(width=2)
        assert network(images(*size)).shape == (2, network.channels, *size)

    @pytest.mark.parametrize("norm", ["batch", "group"])
    def test_every_parameter_gets_a_gradient(self, norm: str) -> None:
        torch.manual_seed(0)
        network = SegNet(width=4, norm=norm)
        (network(images(64, 96)) * images(64, 96, channels=4)).sum().backward()
        reached = {name: bool(p.grad.any()) for name, p in network.named_parameters() if p.ndim == 4}
        assert all(reached.values()), [name for name, nonzero in reached.items() if not nonzero]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    def test_pooled_values_return_to_their_places(self) -> None:
        """A decoder of identities: what comes out is the image where it was a maximum of all its blocks, else 0."""
        x = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) + 1
        network = Autoencoder(1, 1, width=1, bottleneck=1)
        for half in (network.encoder, network.decoder):
            half.levels = nn.ModuleList(nn.Identity() for _ in half.levels)
        tops = F.max_pool2d(x, 32)
        expected = torch.where(x == F.interpolate(tops, (64, 64)), x, torch.zeros(()))
        assert torch.equal(network.decoder(network.encode(x)), expected)
        assert expected.count_nonzero() == 4

    def test_group_norm_ignores_the_rest_of_the_batch(self) -> None:
        torch.manual_seed(0)
        x = images(32, 64).double()
        alone = {}
        for norm in ("batch", "group"):
            network = SegNet(width=4, norm=norm).double()
            alone[norm] = torch.allclose(network(x)[:1], network(x[:1]), rtol=0, atol=1e-12)
        assert alone == {"batch": False, "group": True}

    def test_channels_last_gives_the_same(self) -> None:
        torch.manual_seed(0)
        network = SegNet(width=4).double().eval()
        x = images(48, 64).double()
        expected = network(x)
        found = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected)

    def test_leaves_its_input_as_it_was(self) -> None:
        for network in (SegNet(width=2), SegNetHead(3, 2)):
            x = images(32, 32)
            network(x)
            assert torch.equal(x, images(32, 32))

    def test_runs_on_the_meta_device(self) -> None:
        with torch.device("meta"):
            network = SegNet()
            x = torch.empty(4, 3, 288, 384)
        z = network(x)
        z.sum().backward()
        assert z.shape == (4, 64, 288, 384)

    def test_forward_on_a_fake_gpu(self) -> None:
        with FakeTensorMode(), torch.device("cuda"):
            out = Autoencoder(17, 17, width=16)(torch.empty(2, 17, 96, 128))
        assert (out.device.type, out.shape) == ("cuda", (2, 17, 96, 128))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_runs_in_half_precision(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        network = SegNet(width=4)
        with torch.autocast("cpu", dtype):
            z = network(images(33, 40))
        z.float().sum().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters())


class TestAutoencoder:
    @pytest.mark.parametrize("unpool", ["indices", "upsample"])
    @pytest.mark.parametrize("size", SIZES)
    def test_sizes_come_back(self, size: tuple[int, int], unpool: str) -> None:
        network = Autoencoder(5, 7, width=2, unpool=unpool)
        latent = network.encode(images(*size, channels=5))
        assert latent.features.shape == (2, 16, size[0] // 32, size[1] // 32)
        assert network.decode(latent).shape == (2, 7, *size)

    def test_latent_of_the_papers_setting(self) -> None:
        with torch.device("meta"):
            latent = Networks().autoencoder(17, 17).encode(torch.empty(1, 17, 288, 384))
        assert latent.features.shape == (1, 512, 9, 12)

    @pytest.mark.parametrize("bottleneck", [None, 3, 40])
    def test_bottleneck_sets_the_channels_of_the_latent(self, bottleneck: int | None) -> None:
        network = Networks(4).autoencoder(5, 5, bottleneck=bottleneck)
        latent = network.encode(images(32, 64, channels=5))
        assert latent.features.shape[1] == (bottleneck or 32)
        assert network.decode(latent).shape == (2, 5, 32, 64)

    def test_bottleneck_changes_nothing_else(self) -> None:
        """Three convolutions of the last encoder level, one of the decoder's."""
        with torch.device("meta"):
            wide = Networks().autoencoder(17, 17)
            narrow = Networks().autoencoder(17, 17, bottleneck=256)
        level = [(512, 512), (512, 512), (512, 512), (512, 512)]
        smaller = [(512, 256), (256, 256), (256, 256), (256, 512)]
        assert count(wide) - count(narrow) == by_hand(level) - by_hand(smaller)

    def test_forward_is_decoding_of_the_encoding(self) -> None:
        network = Autoencoder(3, 3, width=2).eval()
        x = images(40, 40)
        assert torch.equal(network(x), network.decode(network.encode(x)))

    @pytest.mark.parametrize(("unpool", "passes"), [("indices", True), ("upsample", False)])
    def test_what_passes_around_the_latent(self, unpool: str, passes: bool) -> None:
        """With upsampling, the latent features alone decide what comes out."""
        torch.manual_seed(0)
        network = Autoencoder(3, 3, width=4, unpool=unpool).eval()
        a, b = (network.encode(x) for x in (images(64, 64), images(64, 64).flip(-1)))
        mixed = network.decode(Latent(a.features, b.pooled))
        assert torch.equal(mixed, network.decode(a)) is not passes

    def test_gradient_of_the_input_alone(self) -> None:
        """What JTR takes: a product with the input's Jacobian, no gradient left at the weights."""
        network = Autoencoder(3, 3, width=2)
        x = images(32, 32).requires_grad_()
        (gradient,) = torch.autograd.grad(network.encode(x).features.sum(), x)
        assert gradient.any()
        assert all(p.grad is None for p in network.parameters())


class TestNetworks:
    def test_width_is_the_backbones_unless_asked_for(self) -> None:
        networks = Networks(4)
        assert networks.autoencoder(3, 3).encoder.width == 4
        assert networks.autoencoder(3, 3, width=2).encoder.width == 2
        assert networks.encoder(3).channels == 32
        assert networks.encoder(3, width=2).channels == 16
        assert networks.mapping(3, 1, width=2).encoder.width == 2

    def test_encoder_keeps_no_indices(self) -> None:
        network = Networks(2).encoder(3, bottleneck=5)
        latent = network(images(32, 64))
        assert isinstance(network, Encoder)
        assert latent.features.shape == (2, 5, 1, 2)
        assert [pooled.indices for pooled in latent.pooled] == [None] * 5

    def test_mapping_changes_channels_only(self) -> None:
        assert Networks(2).mapping(13, 1)(images(33, 40, channels=13)).shape == (2, 1, 33, 40)

    def test_norm_holds_for_every_network(self) -> None:
        networks = Networks(4, "group")
        for network in (networks.autoencoder(2, 2), networks.encoder(2), networks.mapping(2, 1)):
            assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]

    def test_a_norm_can_be_asked_for(self) -> None:
        networks = Networks(4, "group")
        for network in (networks.autoencoder(2, 2, norm="instance"), networks.encoder(2, norm="instance")):
            assert {type(m) for m in network.modules() if "Norm" in type(m).__name__} == {nn.InstanceNorm2d}

    def test_like_the_backbone_is_a_segnet_or_what_the_backbone_makes(self) -> None:
        class Own(nn.Module):
            def autoencoder(self, *options: object) -> nn.Module:
                made = nn.Identity()
                made.options = options  # type: ignore[assignment]
                return made

        segnet = Networks(4, "group", SegNet(3, 4, "group")).like_backbone(5, 6, bottleneck=7)
        assert isinstance(segnet, Autoencoder)
        assert (segnet.encoder.width, segnet.encoder.channels) == (4, 7)
        assert Networks(4, backbone=Own()).like_backbone(5, 6, bottleneck=7).options == (5, 6, 7)
        for backbone in (nn.Identity(), None):
            with pytest.raises(MtlError, match="makes no autoencoder of its kind"):
                Networks(4, backbone=backbone).like_backbone(5, 6)
