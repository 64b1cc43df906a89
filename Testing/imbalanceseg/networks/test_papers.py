"""What is particular to one network: the claims that its paper makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from imbalanceseg.errors import ModelError
from imbalanceseg.networks import (
    NnUNet,
    TernausNet,
    TwoPathwayUNet,
    UNet2d,
    UNet2d5,
    UNet3d,
)
from imbalanceseg.networks.attention import SpatialAttention, attention_levels
from imbalanceseg.networks.nnunet import supervision_weights
from imbalanceseg.networks.two_pathway import _kept_channels


class TestUNet2d:
    def test_valid_sides_are_those_of_the_paper(self):
        with torch.device("meta"):
            network = UNet2d(padding="valid")
        assert network.output_side(572) == 388
        fitting = [side for side in range(180, 620) if network.output_side(side)]
        assert np.all(np.diff(fitting) == 16)
        assert network.output_side(571) == 0

    def test_mirrored_tiles_are_the_whole_image_in_the_interior(self):
        """With same padding a tile is right where its border is farther than the network sees."""
        torch.manual_seed(0)
        network = UNet2d(features=(4, 8, 8)).eval()
        image = torch.randn(1, 1, 96, 96)
        with torch.inference_mode():
            whole = network(image)
            tile = network(image[..., 16:80, 16:80])
        margin = 24
        inner = np.s_[..., margin : 64 - margin, margin : 64 - margin]
        outer = np.s_[..., 16 + margin : 80 - margin, 16 + margin : 80 - margin]
        torch.testing.assert_close(tile[inner], whole[outer], atol=1e-5, rtol=0)

    def test_valid_output_is_the_middle_of_the_padded_one(self):
        torch.manual_seed(0)
        valid = UNet2d(features=(4, 8), padding="valid").eval()
        same = UNet2d(features=(4, 8)).eval()
        same.load_state_dict(valid.state_dict())
        image = torch.randn(1, 1, 60, 60)
        with torch.inference_mode():
            small, large = valid(image), same(image)
        side = small.shape[-1]
        start = (60 - side) // 2
        middle = large[..., start : start + side, start : start + side]
        torch.testing.assert_close(small, middle, atol=1e-5, rtol=0)


def test_unet3d_valid_sides_are_those_of_the_paper():
    with torch.device("meta"):
        network = UNet3d(3, 3, padding="valid")
    assert [network.output_side(side) for side in (132, 132, 116)] == [44, 44, 28]


class TestUNet2d5:
    @pytest.mark.parametrize(
        ("layout", "multiples", "levels"), [("paper", (4, 16, 16), 4), ("public", (8, 32, 32), 6)]
    )
    def test_maps_have_the_sizes_of_their_levels(self, layout, multiples, levels):
        network = UNet2d5(features=4, layout=layout)
        assert network.multiples() == multiples
        size = tuple(2 * m for m in multiples)
        output = network.train()(torch.randn(1, 1, *size))
        assert len(output.attention) == levels
        assert tuple(output.attention[-1].shape[2:]) == size
        for attention in output.attention:
            assert attention.shape[1] == 1
            assert torch.all((attention >= 0) & (attention <= 1))
        logits, levels = network.eval().forward_with_attention(torch.randn(1, 1, *size))
        assert logits.shape[2:] == levels.shape[2:] == size
        assert levels.shape[1] == len(output.attention)
        assert 0 <= float(levels.min()) <= float(levels.max()) <= 1

    def test_the_first_levels_do_not_look_across_slices(self):
        network = UNet2d5(features=4)
        flat = [m.kernel_size for m in network.down[0].modules() if isinstance(m, torch.nn.Conv3d)]
        cube = [m.kernel_size for m in network.down[2].modules() if isinstance(m, torch.nn.Conv3d)]
        assert set(flat) == {(1, 3, 3)}
        assert set(cube) == {(3, 3, 3)}

    @pytest.mark.parametrize(("bias", "factor"), [(-100.0, 1.0), (100.0, 2.0)])
    def test_attention_of_zero_changes_nothing_and_of_one_doubles(self, bias, factor):
        module = SpatialAttention(4, (3, 3, 3))
        torch.nn.init.zeros_(module.layers[2].weight)
        torch.nn.init.constant_(module.layers[2].bias, bias)
        x = torch.randn(1, 4, 4, 4, 4)
        weighted, _ = module(x)
        torch.testing.assert_close(weighted, factor * x)

    def test_without_attention_there_is_no_map(self):
        network = UNet2d5(features=4, attention=False)
        x = torch.randn(1, 1, 4, 16, 32)
        assert network.train()(x).attention == []
        with pytest.raises(ModelError) as caught:
            network.forward_with_attention(x)
        assert caught.value.code == "no-attention"

    def test_attention_levels_stand_side_by_side_at_full_size(self):
        maps = [torch.full((1, 1, 2, 2, 2), 0.2), torch.full((1, 1, 4, 4, 4), 0.6)]
        levels = attention_levels(maps, (4, 4, 4))
        torch.testing.assert_close(levels[:, :1], torch.full((1, 1, 4, 4, 4), 0.2))
        torch.testing.assert_close(levels[:, 1:], maps[1])


class TestTwoPathway:
    @pytest.mark.parametrize(("path", "flat"), [("in_plane", True), ("through_plane", False)])
    def test_an_impulse_spreads_along_its_own_path_only(self, path, flat):
        network = TwoPathwayUNet(1, features=(4, 4, 4, 4))
        convolutions = [m for m in getattr(network, path)[0] if isinstance(m, torch.nn.Conv3d)]
        x = torch.zeros(1, 1, 9, 9, 9)
        x[0, 0, 4, 4, 4] = 1
        with torch.no_grad():
            for conv in convolutions:
                conv.bias.zero_()
                x = conv(x)
        z, y, w = (axis.unique().tolist() for axis in x.abs().sum((0, 1)).nonzero().T)
        inside, across = [2, 3, 4, 5, 6], [4]
        assert (z, y, w) == ((across, inside, inside) if flat else (inside, across, across))

    def test_the_order_of_sequences_is_that_of_the_first_weights(self):
        torch.manual_seed(0)
        network = TwoPathwayUNet(3, features=(4, 4, 4, 4)).eval()
        x = torch.randn(1, 3, 4, 16, 16)
        order = [2, 0, 1]
        with torch.no_grad():
            before = network(x)
            for path in (network.in_plane, network.through_plane):
                path[0][0].weight.copy_(path[0][0].weight[:, order])
            torch.testing.assert_close(network(x[:, order]), before, atol=1e-5, rtol=1e-5)
            for path in (network.in_plane, network.through_plane):
                path[0][0].weight[:, 0] = 0
            without = x[:, order].clone()
            without[:, 0] = 100
            torch.testing.assert_close(network(without), network(x[:, order]))

    def test_a_sample_never_loses_all_its_sequences(self):
        torch.manual_seed(0)
        kept = _kept_channels(torch.zeros(2000, 3, 1, 1, 1), 0.5).flatten(1)
        assert float(kept.sum(1).min()) == 1
        assert float(_kept_channels(torch.zeros(4000, 3, 1, 1, 1), 0.2).mean()) == pytest.approx(
            0.8, abs=0.02
        )


class TestTernausNet:
    def test_skips_halve_and_the_deepest_is_a_thirty_second(self):
        network = TernausNet().eval()
        sides = []
        hooks = [
            stage[-1].register_forward_hook(lambda *a: sides.append(a[2].shape[-1]))
            for stage in network.encoder
        ]
        with torch.inference_mode():
            network(torch.zeros(1, 3, 64, 64))
        for hook in hooks:
            hook.remove()
        assert sides == [64, 32, 16, 8, 4]

    def test_grey_images_answer_as_three_equal_colours(self, tmp_path):
        torch.manual_seed(0)
        color, grey = TernausNet(3).eval(), TernausNet(1).eval()
        numbers = (0, 3, 6, 8, 11, 13, 16, 18)
        convs = [m for m in color.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
        state = {}
        for n, conv in zip(numbers, convs, strict=True):
            state[f"features.{n}.weight"] = torch.randn_like(conv.weight) * 0.05
            state[f"features.{n}.bias"] = torch.randn_like(conv.bias)
        save_file(state, tmp_path / "vgg11.safetensors")
        for network in (color, grey):
            network.load_vgg11(tmp_path / "vgg11.safetensors")
        image = torch.randn(1, 1, 32, 32)
        with torch.inference_mode():
            one = grey.encoder[0][0](image)
            three = color.encoder[0][0](image.repeat(1, 3, 1, 1))
        torch.testing.assert_close(one, three, atol=1e-5, rtol=1e-5)

    def test_weights_that_do_not_fit_change_nothing(self, tmp_path):
        network = TernausNet()
        before = network.encoder[0][0].weight.clone()
        save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.safetensors")
        (tmp_path / "text.safetensors").write_text("no weights")
        for file, code in (
            ("part", "weights-mismatch"),
            ("text", "weights-unreadable"),
            ("absent", "weights-unreadable"),
        ):
            with pytest.raises(ModelError) as caught:
                network.load_vgg11(tmp_path / f"{file}.safetensors")
            assert caught.value.code == code
        assert torch.equal(network.encoder[0][0].weight, before)


class TestNnUNet:
    def test_deep_outputs_come_in_training_alone(self):
        network = NnUNet(
            kernels=((3, 3, 3),) * 4,
            strides=((1, 1, 1), *((2, 2, 2),) * 3),
            features=(4, 8, 8, 8),
            deep_supervision=True,
        )
        x = torch.randn(1, 1, 16, 16, 16)
        outputs = network.train()(x)
        assert [tuple(o.shape) for o in outputs] == [(1, 2, n, n, n) for n in (16, 8, 4)]
        assert network.eval()(x).shape == (1, 2, 16, 16, 16)

    def test_widths_double_up_to_the_limit(self):
        with torch.device("meta"):
            network = NnUNet(kernels=((3, 3, 3),) * 6, strides=((1, 1, 1), *((2, 2, 2),) * 5))
        widths = [head.conv.conv.in_channels for head in network.heads]
        blocks = [block.conv2.out_channels for block in network.encoder]
        assert widths == [32]
        assert blocks == [32, 64, 128, 256, 320, 320]

    def test_every_weight_is_stored_once(self):
        network = NnUNet(kernels=((3, 3, 3),) * 3, strides=((1, 1, 1), *((2, 2, 2),) * 2))
        stored = sum(tensor.numel() for tensor in network.state_dict().values())
        assert stored == sum(p.numel() for p in network.parameters())

    def test_supervision_halves_and_leaves_the_coarsest_out(self):
        weights = supervision_weights(4)
        assert sum(weights) == pytest.approx(1)
        assert weights[0] == 2 * weights[1] == 4 * weights[2]
        assert weights[3] == 0
        assert supervision_weights(1) == [1.0]
