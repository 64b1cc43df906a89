"""WingsNet against its layer table, and its short cuts against the literal definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from imbalanceseg.errors import InputError, ModelError
from imbalanceseg.losses import GroupSupervision, create_loss
from imbalanceseg.networks import WingsNet
from imbalanceseg.networks.wingsnet import GroupHead, WingsNetOutput, channel_drop_scale

SIZE = (32, 16, 24)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))


def network(seed: int = 0, **kwargs: object) -> WingsNet:
    torch.manual_seed(seed)
    return WingsNet(**kwargs)


def literal_head(head: GroupHead, blocks: nn.ModuleList, features: list[Tensor]) -> Tensor:
    """Up-sample every side output to full size, concatenate, mix: the definition."""
    sides = [
        interpolate(block.side(x), size=SIZE, mode="trilinear", align_corners=True)
        for block, x in zip(blocks, features, strict=True)
    ]
    return head.mix(torch.cat(sides, dim=1))


def test_parameter_count_and_shapes(image: Tensor) -> None:
    net = network().train()
    assert sum(p.numel() for p in net.parameters()) == 1_473_186
    output = net(image)
    assert isinstance(output, WingsNetOutput)
    assert output.decoding.shape == output.encoding.shape == (2, 1, *SIZE)
    several = network(in_channels=2, out_channels=3).eval()
    assert several(torch.randn(1, 2, 16, 16, 8)).shape == (1, 3, 16, 16, 8)


@pytest.mark.parametrize("width", [0.25, 0.5, 2.0])
def test_a_network_of_another_width_has_so_many_channels_more_or_fewer(width):
    net, whole = WingsNet(width=width), WingsNet()
    for block, paper in zip(
        (*net.encoder, *net.decoder), (*whole.encoder, *whole.decoder), strict=True
    ):
        assert block.conv.out_channels == width * paper.conv.out_channels
    assert net.eval()(torch.rand(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


@pytest.mark.parametrize("width", [0.0, -1.0, 0.1, 5.0, float("nan")])
def test_a_width_that_leaves_no_network_is_refused(width):
    with pytest.raises(ModelError, match="times as wide"):
        WingsNet(width=width)


def test_layer_table() -> None:
    net = network()
    blocks = [*net.encoder, *net.decoder]
    convs = [(b.conv, len(b.gates)) for b in blocks]
    rows = [(c.in_channels, c.out_channels, c.dilation[0], gates) for c, gates in convs]
    assert rows == [
        (1, 8, 1, 1), (8, 16, 1, 1), (16, 32, 2, 1),
        (32, 32, 1, 2), (32, 32, 2, 2), (32, 64, 2, 2),
        (64, 64, 1, 2), (64, 64, 2, 2), (64, 64, 2, 2),
        (64, 64, 1, 2), (64, 64, 1, 2), (64, 64, 1, 2),
        (128, 64, 1, 2), (64, 64, 1, 2), (128, 64, 1, 2), (64, 32, 1, 2),
        (64, 32, 1, 1), (32, 16, 1, 1),
    ]  # fmt: skip
    assert not any(b.norm.affine or b.norm.track_running_stats for b in blocks)


def test_heads_equal_their_literal_definition(image: Tensor) -> None:
    net = network().eval()
    with torch.no_grad():
        encoded, decoded, _ = net._run(image)
        literal = literal_head(net.decoding_head, net.decoder, decoded)
        assert (net(image) - literal).abs().max() < 1e-5
        sides = [b.side for b in net.encoder]
        encoding = net.encoding_head(encoded, sides, SIZE)
        literal = literal_head(net.encoding_head, net.encoder, encoded)
        assert (encoding - literal).abs().max() < 1e-5


def test_channel_drop_in_the_head_equals_dropping_the_side_outputs(image: Tensor) -> None:
    net = network().train()
    _, decoded, _ = net._run(image)
    torch.manual_seed(7)
    quick = net.decoding_head(decoded, [b.side for b in net.decoder], SIZE)
    torch.manual_seed(7)
    scale = channel_drop_scale(image, 12, 0.3)
    sides = [
        interpolate(b.side(x), size=SIZE, mode="trilinear", align_corners=True)
        for b, x in zip(net.decoder, decoded, strict=True)
    ]
    dropped = torch.cat(sides, dim=1) * scale[:, :, None, None, None]
    assert (scale == 0).any()
    assert not torch.equal(scale[0], scale[1])
    assert (net.decoding_head.mix(dropped) - quick).abs().max() < 1e-5


def test_channel_drop_rescales_per_sample() -> None:
    torch.manual_seed(0)
    scale = channel_drop_scale(torch.zeros(400, 1), 24, 0.3)
    kept = (scale > 0).sum(dim=1)
    expected = (scale > 0) * (24 / (kept + 0.01))[:, None]
    torch.testing.assert_close(scale, expected)
    assert abs(float(kept.float().mean()) / 24 - 0.7) < 0.02
    assert abs(float(scale.mean()) - 1.0) < 0.01


def test_evaluation_is_deterministic_and_training_is_not(image: Tensor) -> None:
    net = network().eval()
    with torch.no_grad():
        assert torch.equal(net(image), net(image))
        net.train()
        assert not torch.equal(net(image).decoding, net(image).decoding)


def test_samples_of_a_batch_do_not_see_each_other(image: Tensor) -> None:
    net = network().eval()
    with torch.no_grad():
        alone = torch.cat([net(image[:1]), net(image[1:])])
        torch.testing.assert_close(net(image), alone, atol=1e-5, rtol=1e-5)


def test_decoding_loss_reaches_the_first_block_but_not_the_encoding_head(image: Tensor) -> None:
    net = network().train()
    target = (image > 1.5).to(torch.uint8)
    GroupSupervision(create_loss("general_union"), encoding_weight=0.0)(
        net(image), target
    ).backward()
    assert net.encoder[0].conv.weight.grad.abs().max() > 0
    assert net.decoder[5].conv.weight.grad.abs().max() > 0
    assert net.encoding_head.mix.weight.grad is None
    assert all(block.side.weight.grad is None for block in net.encoder)


def test_encoding_loss_does_not_reach_the_decoder(image: Tensor) -> None:
    net = network().train()
    net(image).encoding.square().mean().backward()
    assert net.encoder[11].conv.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in net.decoder.parameters())


def test_checkpointing_changes_neither_output_nor_gradient(image: Tensor) -> None:
    gradients = []
    for checkpointing in (False, True):
        net = network(channel_drop=0.0, checkpointing=checkpointing).train()
        output = net(image)
        (output.decoding.sigmoid().mean() + output.encoding.square().mean()).backward()
        gradients.append([p.grad for p in net.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_attention_is_the_product_of_each_decoder_block_s_gates(image: Tensor) -> None:
    net = network().eval()
    recorded: dict[int, list[Tensor]] = {}
    for n, block in enumerate(net.decoder):
        for gate in block.gates:
            gate.register_forward_hook(
                lambda _m, _i, out, n=n: recorded.setdefault(n, []).append(torch.sigmoid(out))
            )
    with torch.no_grad():
        logits, attention = net.forward_with_attention(image)
    products = [torch.stack(gates).prod(dim=0) for gates in recorded.values()]
    full = [interpolate(g, size=SIZE, mode="trilinear", align_corners=True) for g in products]
    torch.testing.assert_close(attention, torch.cat(full, dim=1))
    assert attention.shape == (2, 6, *SIZE)
    assert 0 <= attention.min() < attention.max() <= 1
    with torch.no_grad():
        assert torch.equal(logits, net(image))


def test_bfloat16_and_channels_last_stay_close() -> None:
    # Of maps with a side of two voxels processors get bfloat16 gradients wrong; see Trainer.
    image = torch.randn(1, 1, 24, 24, 32, generator=torch.Generator().manual_seed(1))
    net = network().eval()
    with torch.no_grad():
        exact = net(image)
        last = net.to(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(
            last(image.to(memory_format=torch.channels_last_3d)), exact, atol=1e-4, rtol=1e-4
        )
        with torch.autocast("cpu", torch.bfloat16):
            rounded = last(image)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.1 * exact.std()
    with torch.autocast("cpu", torch.bfloat16):
        output = last.train()(image)
    create_loss("general_union")(output.decoding, (image > 1).to(torch.uint8)).backward()
    assert all(torch.isfinite(p.grad).all() for p in last.parameters() if p.grad is not None)


def test_it_learns_a_bright_tube() -> None:
    torch.manual_seed(0)
    net = WingsNet().train()
    target = torch.zeros(1, 1, 16, 16, 16)
    target[..., 7:9, 7:9] = 1
    image = target + 0.3 * torch.randn(target.shape)
    loss = GroupSupervision(create_loss("general_union"))
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        loss(net(image), target).backward()
        optimiser.step()
    with torch.no_grad():
        found = net.eval()(image) > 0
    dice = 2 * (found * target).sum() / (found.sum() + target.sum())
    assert dice > 0.8


@pytest.mark.parametrize(
    ("size", "code", "advice"),
    [
        ((20, 16, 16), "size-not-multiple", "24 x 16 x 16"),
        ((1, 7, 33), "size-not-multiple", "8 x 8 x 40"),
        ((8, 8, 8), "size-too-small", "16 voxels"),
    ],
)
def test_unusable_sizes_say_what_to_pad_to(
    size: tuple[int, int, int], code: str, advice: str
) -> None:
    with pytest.raises(InputError) as caught:
        network().eval()(torch.zeros(1, 1, *size))
    assert caught.value.code == code
    assert advice in caught.value.hint
