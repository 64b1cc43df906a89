from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from imbalanceseg.inference.tiling import Needed, fewest_tiles, overlapping_tiles, where_needed

MULTIPLES = st.sampled_from([1, 2, 4, 8])


@st.composite
def volumes(draw):
    """Shape, margin, multiples, size of a tile, and cells that are needed."""
    axes = draw(st.integers(2, 3))
    multiples = tuple(draw(MULTIPLES) for _ in range(axes))
    shape = tuple(m * draw(st.integers(2, 64 // m + 2)) for m in multiples)
    margin = tuple(draw(st.integers(0, 9)) for _ in range(axes))
    most = draw(st.integers(1, 40_000))
    cell = tuple(draw(st.sampled_from([3, 8, 16])) for _ in range(axes))
    counts = tuple(-(-n // c) for n, c in zip(shape, cell, strict=True))
    seed, share = draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 0.02, 0.3, 1.0]))
    cells = np.random.default_rng(seed).random(counts) < share
    return shape, margin, multiples, most, Needed(cells, cell)


@given(volumes(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_every_needed_voxel_is_kept_by_a_tile_away_from_its_border(volume, all_of_it):
    shape, margin, multiples, most, needed = volume
    tiles = fewest_tiles(shape, margin, multiples, most, None if all_of_it else needed)
    kept = np.zeros(shape, bool)
    for tile in tiles:
        kept[tile.kept] = True
        for n, m, multiple, seen, span in zip(
            shape, margin, multiples, tile.seen, tile.kept, strict=True
        ):
            assert 0 <= seen.start < seen.stop <= n
            assert seen.start % multiple == (seen.stop - seen.start) % multiple == 0
            assert span.start >= seen.start + (m if seen.start else 0)
            assert span.stop <= seen.stop - (m if seen.stop < n else 0)
    assert len({tile.sides for tile in tiles}) <= 1
    assert [t.seen[0].start for t in tiles] == sorted(t.seen[0].start for t in tiles)
    if all_of_it:
        assert kept.all()
        return
    for index in np.argwhere(needed.cells):
        where = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, needed.cell, strict=True))
        assert kept[where].all()
    assert bool(tiles) == bool(needed.cells.any())


def test_what_fits_is_one_tile_without_a_border():
    (tile,) = fewest_tiles((64, 48, 32), (9, 9, 9), (8, 8, 8), 64 * 48 * 32)
    assert tile.seen == tile.kept == (slice(0, 64), slice(0, 48), slice(0, 32))


def test_tiles_adapt_to_the_volume():
    """A box a little wider than a tile takes hardly more than its own voxels."""
    shape = (168, 168, 168)
    tiles = fewest_tiles(shape, (8, 8, 8), (8, 8, 8), 160**3)
    assert sum(prod(t.sides) for t in tiles) < 1.2 * prod(shape)
    fixed = overlapping_tiles(shape, (160, 160, 160), 0.25)
    assert sum(prod(t.sides) for t in fixed) > 6 * prod(shape)


def test_only_the_needed_corner_is_visited():
    cells = np.zeros((8, 8, 8), bool)
    cells[0, 7, 7] = True
    tiles = fewest_tiles((128, 128, 128), (8, 8, 8), (8, 8, 8), 64**3, Needed(cells, (16,) * 3))
    assert len(tiles) == 1
    assert tiles[0].seen[1].stop == tiles[0].seen[2].stop == 128


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    ("shape", "sides"), [((388, 260, 358), (160, 160, 160)), ((33, 40), (32, 40))]
)
def test_overlapping_tiles_lie_where_monai_lays_them(shape, sides, overlap):
    interval = _get_scan_interval(shape, sides, len(shape), (overlap,) * len(shape))
    theirs = dense_patch_slices(shape, sides, interval)
    ours = [tile.seen for tile in overlapping_tiles(shape, sides, overlap)]
    assert ours == sorted(theirs, key=lambda spans: [span.start for span in spans])


def test_tiles_in_which_nothing_is_needed_are_left_out():
    tiles = overlapping_tiles((64, 64), (32, 32), 0.0)
    cells = np.zeros((4, 4), bool)
    cells[3, 0] = True
    (tile,) = where_needed(tiles, Needed(cells, (16, 16)))
    assert tile.seen == (slice(32, 64), slice(0, 32))
    assert where_needed(tiles, None) == tiles
