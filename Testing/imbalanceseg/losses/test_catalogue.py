"""What holds for every loss of the catalogue: masks, order of voxels, precision, limiting cases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.errors import InputError
from imbalanceseg.losses import create_loss, loss_names

from .catalogue import CASES, SPATIAL, case, maps_for, random_mask

every_loss = pytest.mark.parametrize(("name", "channels"), CASES)
seeds = st.integers(0, 10_000)


def test_the_catalogue_is_complete() -> None:
    promised = (
        "ce bce weighted_ce focal dice dice_squared dice_ce iou iou_bce tversky boundary "
        "hausdorff_dt mse_heatmap ohem lovasz general_union hardness_weighted_dice blob "
        "partial_label"
    )
    assert loss_names() == sorted(promised.split())


@every_loss
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_unlabelled_voxels_get_no_gradient_and_their_labels_no_say(name, channels, seed) -> None:
    logits, target = case(seed, channels)
    mask = random_mask(logits, seed)
    loss = create_loss(name)
    values, gradients = [], []
    other = torch.where(mask, target, (target + 1) % max(channels, 2))
    unlabelled = torch.where(mask, target, 255)
    for label, seen in ((target, mask), (other, mask), (unlabelled, None)):
        z = logits.clone().requires_grad_()
        value = loss(z, label, seen)
        value.backward()
        values.append(value.detach())
        gradients.append(z.grad)
    outside = ~mask.expand_as(logits)
    assert torch.all(gradients[0][outside] == 0)
    assert torch.any(gradients[0][~outside] != 0)
    for value, gradient in zip(values[1:], gradients[1:], strict=True):
        assert torch.equal(value, values[0])
        assert torch.equal(gradient, gradients[0])


@every_loss
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_a_masked_loss_is_that_of_the_voxels_left(name, channels, seed) -> None:
    logits, target = case(seed, channels, batch=1)
    mask = random_mask(logits, seed)
    maps = maps_for(name, logits, seed)
    loss = create_loss(name)

    def left(x: torch.Tensor) -> torch.Tensor:
        return x[0][:, mask[0, 0]][None]

    if name == "hausdorff_dt":  # its prediction's distances are its own affair
        return
    alone = loss(left(logits), left(target), **{k: left(v) for k, v in maps.items()})
    assert abs(loss(logits, target, mask, **maps) - alone) < 1e-12


@every_loss
@given(seed=seeds)
@settings(max_examples=5, deadline=None)
def test_the_order_of_voxels_does_not_matter(name, channels, seed) -> None:
    if name == "hausdorff_dt":
        return
    logits, target = case(seed, channels)
    maps = maps_for(name, logits, seed)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))

    def moved(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2)[..., order].reshape(x.shape)

    loss = create_loss(name)
    before = loss(logits, target, **maps)
    after = loss(moved(logits), moved(target), **{k: moved(v) for k, v in maps.items()})
    assert abs(before - after) < 1e-12


@every_loss
def test_identical_samples_give_the_loss_of_one(name, channels) -> None:
    logits, target = case(3, channels, batch=1)
    loss = create_loss(name)
    if name == "general_union":  # one sum over the batch, with a constant in it
        loss = create_loss(name, smooth=0.0)
    one = loss(logits, target)
    two = loss(logits.repeat(2, 1, 1, 1, 1), target.repeat(2, 1, 1, 1, 1))
    assert abs(one - two) < 1e-5


@every_loss
def test_the_gradient_is_the_finite_difference(name, channels) -> None:
    logits, target = case(5, channels)
    mask = random_mask(logits, 5)
    maps = maps_for(name, logits) if name in SPATIAL else {}
    constants = {"hardness_weighted_dice": {"detach": False}}.get(name, {})
    loss = create_loss(name, **constants)
    z = logits.clone().requires_grad_()
    loss(z, target, mask, **maps).backward()
    step = 1e-6
    for voxel in range(0, logits.numel(), 11):
        shift = torch.zeros(logits.numel(), dtype=torch.float64)
        shift[voxel] = step
        shift = shift.reshape(logits.shape)
        up = loss(logits + shift, target, mask, **maps)
        down = loss(logits - shift, target, mask, **maps)
        assert abs((up - down) / (2 * step) - z.grad.flatten()[voxel]) < 1e-7


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 60.0])
def test_half_precision_and_extreme_logits_give_finite_gradients(
    name, channels, dtype, size
) -> None:
    logits, target = case(7, channels)
    z = (logits.sign() * size).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = create_loss(name)(z, target)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()
    if size == 1.0:
        assert torch.any(z.grad != 0)


@every_loss
@pytest.mark.parametrize("label", ["background", "foreground", "unlabelled"])
@pytest.mark.parametrize("size", [1.0, 80.0])
def test_uniform_targets_give_no_nan(name, channels, label, size) -> None:
    logits, _ = case(8, channels, dtype=torch.float32)
    value = {"background": 0, "foreground": max(1, channels - 1), "unlabelled": 255}[label]
    target = torch.full((2, 1, *logits.shape[2:]), value, dtype=torch.uint8)
    z = (logits * size).requires_grad_()
    loss = create_loss(name)(z, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
    if label == "unlabelled":
        assert loss == 0
        assert torch.all(z.grad == 0)


@every_loss
def test_infinite_logits_and_nan_maps_under_the_mask_do_no_harm(name, channels) -> None:
    logits, target = case(9, channels)
    maps = maps_for(name, logits)
    mask = random_mask(logits, 9)
    z = torch.where(mask, logits, torch.inf).requires_grad_()
    holes = {
        k: torch.where(mask, v, torch.nan) if v.is_floating_point() else v for k, v in maps.items()
    }
    loss = create_loss(name)(z, target, mask, **holes)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


@every_loss
def test_flat_images_work_too(name, channels) -> None:
    logits, target = case(10, channels)
    z = logits[:, :, 0].clone().requires_grad_()
    create_loss(name)(z, target[:, :, 0]).backward()
    assert torch.isfinite(z.grad).all()


@every_loss
def test_a_sample_without_a_labelled_voxel_changes_nothing(name, channels) -> None:
    logits, target = case(11, channels)
    target[1] = 255
    loss = create_loss(name)
    assert abs(loss(logits, target) - loss(logits[:1], target[:1])) < 1e-12


@every_loss
def test_wrong_shapes_are_refused(name, channels) -> None:
    logits, target = case(12, channels)
    loss = create_loss(name)
    for wrong in (target[:, :, :2], target[:1], target[:, 0]):
        with pytest.raises(InputError) as caught:
            loss(logits, wrong)
        assert caught.value.code == "loss-shape"
    with pytest.raises(InputError) as caught:
        loss(logits, target, torch.ones(2, 1, 3, 5, 3))
    assert caught.value.code == "loss-shape"


@every_loss
def test_a_map_with_the_wrong_channels_is_refused(name, channels) -> None:
    logits, target = case(15, channels)
    for key, values in maps_for(name, logits).items():
        with pytest.raises(InputError) as caught:
            create_loss(name)(logits, target, **{key: values.repeat(1, 3, 1, 1, 1)})
        assert caught.value.code == "loss-shape"
        assert key in caught.value.message


def test_a_class_that_the_logits_lack_is_refused() -> None:
    logits, target = case(13, 3)
    target[0, 0, 0, 0, 0] = 3
    with pytest.raises(InputError) as caught:
        create_loss("ce")(logits, target)
    assert caught.value.code == "loss-label"
    assert "255" in caught.value.hint


def test_unknown_names_and_constants_are_refused_with_what_there_is() -> None:
    with pytest.raises(InputError) as caught:
        create_loss("general_onion")
    assert caught.value.code == "loss-unknown"
    assert "general_union" in caught.value.hint
    with pytest.raises(InputError) as caught:
        create_loss("tversky", alpha=0.7)
    assert caught.value.code == "loss-arguments"
    assert "miss_weight" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("tversky", {"miss_weight": 1.2}),
        ("focal", {"gamma": -1.0}),
        ("blob", {"base": "lovasz"}),
        ("ohem", {"least_share": 2.0}),
        ("hardness_weighted_dice", {"emphasis": -0.1}),
        ("weighted_ce", {"class_weight": (1.0, 2.0, 3.0)}),
        ("partial_label", {"annotated_classes": ()}),
        ("general_union", {"alpha": 0.0}),
        ("general_union", {"exponent": 1.5}),
        ("general_union", {"shift": 0.0}),
        ("general_union", {"smooth": -1.0}),
    ],
)
def test_constants_out_of_range_are_refused(name, constants) -> None:
    logits, target = case(14, 1)
    with pytest.raises(InputError) as caught:
        create_loss(name, **constants)(logits, target)
    assert caught.value.code == "loss-constant"
