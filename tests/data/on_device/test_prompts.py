"""Prompts drawn from ground truth, and further clicks against SciPy's labelling and distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from samjax.data.on_device.keys import sample_keys
from samjax.data.on_device.prompts import (
    KINDS,
    PromptMix,
    border_distance,
    draw_kinds,
    first_prompt,
    jitter_box,
    largest_region,
    next_click,
    tight_box,
    to_input_pixels,
    uniform_click,
)
from samjax.errors import UserError
from samjax.models.prompt_encoder import (
    BOX_FIRST,
    BOX_SECOND,
    EMPTY,
    NEGATIVE,
    NOT_A_POINT,
    POSITIVE,
    Buffer,
    RandomPositions,
)

SIZE = 40
EXTENT = np.array([32, 36], np.int32)  # rows and columns that are not padding
EVERYWHERE = np.ones((SIZE, SIZE), bool)
NOWHERE = np.zeros((SIZE, SIZE), bool)


def blobs(seed: int, share: float = 0.5, smooth: float = 1.5) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((SIZE, SIZE)), smooth)
    return noise > np.quantile(noise, 1 - share)


def spiral() -> np.ndarray:
    """One pixel wide, with gaps of one, from the corner to the middle."""
    mask = NOWHERE.copy()
    y, x, dy, dx = 0, 0, 0, 1
    for length in [SIZE - 1, *np.repeat(np.arange(SIZE - 1, 0, -2), 2)]:
        for _ in range(length):
            mask[y, x] = True
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
    return mask


def comb() -> np.ndarray:
    """Teeth that join only at the bottom, as a U many times over."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[3:, 1::2] = True
    mask[-1, 1:] = True
    return mask


def largest_by_scipy(*masks: np.ndarray) -> np.ndarray:
    """The largest piece of several masks; of equally large ones that with the first pixel."""
    pieces = []
    for mask in masks:
        labels, count = ndimage.label(mask)
        pieces += [labels == number for number in range(1, count + 1)]
    return max(pieces, key=lambda piece: (piece.sum(), -np.flatnonzero(piece)[0]), default=NOWHERE)


@jax.jit
def clicks(keys, predicted, mask, pixels):
    """Many clicks on one slice."""
    return jax.vmap(next_click, in_axes=(0, None, None, None))(keys, predicted, mask, pixels)


def click_many(predicted, mask, pixels=EVERYWHERE, count=64) -> tuple[np.ndarray, np.ndarray]:
    coords, labels = clicks(jax.random.split(jax.random.key(0), count), predicted, mask, pixels)
    return np.asarray(coords).astype(int), np.asarray(labels)


class TestMix:
    @pytest.mark.parametrize(
        ("text", "shares"),
        [
            ("box", {"box": 1.0}),
            ("none", {"none": 1.0}),
            ("mixed", {"box": 1 / 3, "point": 1 / 3, "none": 1 / 3}),
            ("point, none", {"point": 0.5, "none": 0.5}),
            ("point:0.75,none:0.25", {"point": 0.75, "none": 0.25}),
            ("point:3,none:1", {"point": 0.75, "none": 0.25}),
        ],
    )
    def test_parse(self, text, shares):
        mix = PromptMix.parse(text, jitter=0.1)
        assert dict(mix.shares) == pytest.approx(shares)
        assert mix.jitter == 0.1
        again = PromptMix.parse(str(mix), jitter=0.1)
        assert [kind for kind, _ in again.shares] == [kind for kind, _ in mix.shares]
        assert dict(again.shares) == pytest.approx(shares, abs=1e-5)

    def test_a_kind_without_share_has_no_slots(self):
        assert PromptMix.parse("point:1,box:0").kinds == ("point",)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("boxes", "unknown kind 'boxes'"),
            ("", "unknown kind ''"),
            ("point:much", "'much' is not a number"),
            ("point:-1,none:2", "positive"),
            ("point:0", "positive"),
            ("point:nan,none:1", "positive"),
            ("point:inf", "positive"),
            ("point,point", "each kind named once"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_in_one_line(self, text, told):
        with pytest.raises(UserError, match=told) as caught:
            PromptMix.parse(text)
        assert "--prompt" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_kinds_come_as_often_as_asked(self):
        mix = PromptMix.parse("point:0.7,none:0.3")
        kinds = jax.vmap(lambda key: draw_kinds(key, mix))(jax.random.split(jax.random.key(0), 4000))
        counts = dict(zip(KINDS, np.bincount(kinds, minlength=3), strict=True))
        assert counts["box"] == 0
        assert abs(counts["point"] - 2800) < 4 * np.sqrt(4000 * 0.21)


class TestBox:
    @pytest.mark.parametrize("seed", range(4))
    def test_tight_box(self, seed):
        mask = NOWHERE.copy()
        rng = np.random.default_rng(seed)
        mask[rng.integers(0, SIZE, 3), rng.integers(0, SIZE, 3)] = True
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max(), rows.max()]
        np.testing.assert_array_equal(tight_box(jnp.asarray(mask)), expected)

    def test_tight_box_at_the_borders_and_of_one_pixel(self):
        np.testing.assert_array_equal(tight_box(jnp.asarray(EVERYWHERE)), [0, 0, SIZE - 1, SIZE - 1])
        one = NOWHERE.copy()
        one[5, 9] = True
        np.testing.assert_array_equal(tight_box(jnp.asarray(one)), [9, 5, 9, 5])

    def test_tight_boxes_of_several_masks_are_those_of_each(self):
        masks = jnp.stack([blobs(seed, share=0.01) for seed in range(6)]).reshape(2, 3, SIZE, SIZE)
        boxes = tight_box(masks)
        assert boxes.shape == (2, 3, 4)
        for index in np.ndindex(2, 3):
            np.testing.assert_array_equal(boxes[index], tight_box(masks[index]))

    @pytest.mark.parametrize("box", [(10, 5, 29, 14), (0, 0, 3, 3), (30, 25, 35, 31), (7, 7, 7, 7)])
    def test_jitter_stays_in_the_slice_in_order_and_within_its_bound(self, box):
        keys = jax.random.split(jax.random.key(1), 300)
        box, jitter = np.array(box, np.float32), 0.2
        moved = np.asarray(jax.vmap(lambda key: jitter_box(key, jnp.asarray(box), jitter, jnp.asarray(EXTENT)))(keys))
        sides = np.tile(box[2:] - box[:2] + 1, 2)
        assert (np.abs(moved - box) <= jitter * sides + 0.5).all()
        assert (moved[:, :2] <= moved[:, 2:]).all()
        assert (moved >= 0).all()
        assert (moved <= np.array([35, 31, 35, 31])).all()
        np.testing.assert_array_equal(moved, np.round(moved))
        if sides.min() >= 10:
            # Every side uses its whole range, apart from the others.
            assert (np.ptp(moved, axis=0) == 2 * np.round(jitter * sides)).all()
            assert np.abs(np.corrcoef(moved.T) - np.eye(4)).max() < 0.2


class TestFirstClick:
    def test_it_is_uniform_in_the_roi(self):
        mask = blobs(0, share=0.03)
        mask[0, 0] = mask[-1, -1] = True
        keys = jax.random.split(jax.random.key(0), 4000)
        drawn = np.asarray(jax.jit(jax.vmap(uniform_click, in_axes=(0, None)))(keys, jnp.asarray(mask)))
        counts = np.zeros((SIZE, SIZE), int)
        np.add.at(counts, (drawn[:, 1].astype(int), drawn[:, 0].astype(int)), 1)
        assert not counts[~mask].any()
        pixels = mask.sum()
        expected = 4000 / pixels
        chi_square = ((counts[mask] - expected) ** 2 / expected).sum()
        assert abs(chi_square - (pixels - 1)) < 4 * np.sqrt(2 * (pixels - 1))

    def test_pixel_centres_count_the_half_pixel_once(self):
        """The encoder's grid of N positions over its input has them where native pixels 0 to N - 1 come out."""
        native, size = 10, 64
        positions = RandomPositions(8)
        positions.positional_encoding_gaussian_matrix = Buffer(jax.random.normal(jax.random.key(0), (2, 4)))
        pixels = to_input_pixels(jnp.stack([jnp.arange(10.0)] * 2, axis=-1), native, size)
        np.testing.assert_allclose((pixels[:, 0] + 0.5), (np.arange(10) + 0.5) * 6.4, rtol=1e-6)
        diagonal = positions.grid(native, native)[np.arange(10), np.arange(10)]
        np.testing.assert_allclose(positions((pixels + 0.5) / size), diagonal, atol=1e-5)
        np.testing.assert_allclose(to_input_pixels(jnp.arange(10.0), 10, 10), np.arange(10), atol=1e-6)


class TestFirstPrompt:
    MASK = np.zeros((SIZE, SIZE), bool)
    MASK[10:14, 20:31] = True

    def prompt(self, mask, kind, mix="mixed", jitter=0.0, seed=0):
        made = first_prompt(
            jax.random.key(seed),
            jnp.asarray(mask),
            jnp.asarray(KINDS.index(kind)),
            EXTENT,
            PromptMix.parse(mix, jitter),
            80,
        )
        return np.asarray(made.coords)[0], np.asarray(made.labels)[0]

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("mix", ["mixed", "box", "point", "none", "point,none"])
    def test_an_empty_slice_has_none(self, kind, mix):
        coords, labels = self.prompt(NOWHERE, kind, mix)
        assert labels.size == 1 + ("point" in mix or mix == "mixed") + 2 * (mix in ("mixed", "box"))
        assert (labels == EMPTY).all()
        assert np.isfinite(coords).all()

    @pytest.mark.parametrize("seed", range(5))
    def test_a_point_and_one_not_a_point(self, seed):
        coords, labels = self.prompt(self.MASK, "point", seed=seed)
        assert sorted(labels) == [EMPTY, EMPTY, NOT_A_POINT, POSITIVE]
        x, y = ((coords[labels == POSITIVE][0] + 0.5) * SIZE / 80 - 0.5).round(3)
        assert x == int(x)
        assert y == int(y)
        assert self.MASK[int(y), int(x)]

    def test_a_box_and_no_not_a_point(self):
        coords, labels = self.prompt(self.MASK, "box")
        assert sorted(labels) == [EMPTY, EMPTY, BOX_FIRST, BOX_SECOND]
        np.testing.assert_allclose(coords[labels == BOX_FIRST][0], [20 * 2 + 0.5, 10 * 2 + 0.5])
        np.testing.assert_allclose(coords[labels == BOX_SECOND][0], [30 * 2 + 0.5, 13 * 2 + 0.5])

    def test_only_the_first_of_several_clicks_is_drawn(self):
        mix, kind = PromptMix.parse("point,none"), jnp.asarray(KINDS.index("point"))
        prompts = first_prompt(jax.random.key(0), jnp.asarray(self.MASK), kind, EXTENT, mix, 80, clicks=3)
        assert list(np.asarray(prompts.labels)[0]) == [POSITIVE, EMPTY, EMPTY, NOT_A_POINT]

    def test_none_is_none_though_there_is_a_roi(self):
        assert (self.prompt(self.MASK, "none")[1] == EMPTY).all()

    def test_jitter_moves_the_box_only_when_asked(self):
        tight = self.prompt(self.MASK, "box")[0]
        moved = [self.prompt(self.MASK, "box", jitter=0.3, seed=seed)[0][-2:] for seed in range(4)]
        assert any((box != tight[-2:]).any() for box in moved)

    def test_the_key_decides(self):
        drawn = [self.prompt(self.MASK, "point", seed=seed)[0][0] for seed in (3, 3, 4)]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert (drawn[0] != drawn[2]).any()


class TestRegions:
    @pytest.mark.parametrize("share", [0.05, 0.4, 0.5, 0.6, 0.95])
    @pytest.mark.parametrize("smooth", [0.0, 1.5])
    def test_the_largest_is_scipys(self, share, smooth):
        one, two = blobs(1, share, smooth), blobs(2, share, smooth)
        surplus = two & ~one
        found = np.asarray(jax.jit(largest_region)(one + 2 * surplus))
        np.testing.assert_array_equal(found, largest_by_scipy(one, surplus))

    @pytest.mark.parametrize("shape", [spiral, comb])
    @pytest.mark.parametrize("turns", range(4))
    def test_winding_ones_are_one(self, shape, turns):
        mask = np.rot90(shape(), turns)
        assert ndimage.label(mask)[1] == 1
        assert mask.sum() > 0.4 * SIZE * SIZE
        np.testing.assert_array_equal(jax.jit(largest_region)(mask.astype(int)), mask)
        cut = mask.copy()
        cut[SIZE // 2 :, : SIZE // 2] = False
        np.testing.assert_array_equal(jax.jit(largest_region)(cut.astype(int)), largest_by_scipy(cut))

    def test_of_equally_large_ones_the_first_in_reading_order(self):
        kinds = np.zeros((SIZE, SIZE), int)
        kinds[20:23, 2:5], kinds[10:13, 30:33], kinds[10:13, 20:23] = 1, 1, 2
        np.testing.assert_array_equal(jax.jit(largest_region)(kinds), (kinds == 2))

    def test_corners_and_borders_do_not_join(self):
        """Diagonal neighbours, the ends of consecutive rows, and touching regions of unlike kind."""
        kinds = np.zeros((SIZE, SIZE), int)
        kinds[0:3, 0:3], kinds[3:6, 3:6] = 1, 1
        kinds[10, -4:], kinds[11, :4] = 1, 1
        kinds[20:22, 0:4], kinds[22:24, 0:6] = 1, 2
        found = np.asarray(jax.jit(largest_region)(kinds))
        np.testing.assert_array_equal(np.argwhere(found), np.argwhere(kinds == 2))

    @pytest.mark.parametrize("region", [blobs(3, 0.9), blobs(4, 0.5), EVERYWHERE, NOWHERE, spiral()])
    def test_the_distance_is_scipys(self, region):
        around = np.pad(region, 1)
        theirs = ndimage.distance_transform_cdt(around, "taxicab")[1:-1, 1:-1]
        np.testing.assert_array_equal(jax.jit(border_distance)(region), theirs)

    def test_regions_need_not_be_square(self):
        mask = blobs(5)[:17]
        np.testing.assert_array_equal(jax.jit(largest_region)(mask.astype(int)), largest_by_scipy(mask))
        theirs = ndimage.distance_transform_cdt(np.pad(mask, 1), "taxicab")[1:-1, 1:-1]
        np.testing.assert_array_equal(jax.jit(border_distance)(mask), theirs)


class TestNextClick:
    @pytest.mark.parametrize("seed", range(4))
    def test_it_lies_deep_in_the_largest_error_and_says_of_which_kind(self, seed):
        predicted, mask = blobs(10 + seed, 0.3, 3), blobs(20 + seed, 0.3, 3)
        pixels = NOWHERE.copy()
        pixels[: EXTENT[0], : EXTENT[1]] = True
        missed, surplus = mask & ~predicted & pixels, predicted & ~mask & pixels
        region = largest_by_scipy(missed, surplus)
        depth = ndimage.distance_transform_cdt(np.pad(region, 1), "taxicab")[1:-1, 1:-1]
        core = depth > depth.max() / 2
        coords, labels = click_many(predicted, mask, pixels, count=400)
        hit = NOWHERE.copy()
        hit[coords[:, 1], coords[:, 0]] = True
        assert not (hit & ~core).any()
        assert hit[core].mean() > min(0.9, 120 / core.sum())
        assert (labels == (POSITIVE if (missed & region).any() else NEGATIVE)).all()

    def test_kinds(self):
        small, large = NOWHERE.copy(), NOWHERE.copy()
        small[2:6, 2:6], large[20:30, 20:30] = True, True
        for predicted, mask, expected in ((small, large, POSITIVE), (large, small, NEGATIVE)):
            coords, labels = click_many(predicted, mask)
            assert (labels == expected).all()
            assert labels.dtype == np.int32
            assert large[coords[:, 1], coords[:, 0]].all()

    def test_a_disc_is_clicked_near_its_middle(self):
        rows, columns = np.mgrid[:SIZE, :SIZE]
        distance = np.hypot(rows - 18, columns - 21)
        coords, _ = click_many(NOWHERE, distance <= 12, count=400)
        away = np.hypot(coords[:, 1] - 18, coords[:, 0] - 21)
        assert 6 <= away.max() <= 12 / np.sqrt(2) + 1
        core = np.unique(coords, axis=0).shape[0] / (distance <= 12).sum()
        assert 0.2 < core < 0.35

    @pytest.mark.parametrize("mask", [NOWHERE, EVERYWHERE, blobs(0)])
    def test_without_error_there_is_none(self, mask):
        coords, labels = clicks(jax.random.split(jax.random.key(0), 2), mask, mask, EVERYWHERE)
        assert (np.asarray(labels) == EMPTY).all()
        assert np.isfinite(coords).all()

    def test_padding_does_not_count(self):
        predicted, mask = NOWHERE.copy(), NOWHERE.copy()
        mask[1:4, 1:4], predicted[:, 36:] = True, True
        pixels = NOWHERE.copy()
        pixels[:, :36] = True
        coords, labels = click_many(predicted, mask, pixels)
        assert (labels == POSITIVE).all()
        assert (coords == 2).all()
        assert (click_many(predicted, mask & ~mask, pixels)[1] == EMPTY).all()

    def test_a_single_pixel_is_clicked(self):
        one = NOWHERE.copy()
        one[SIZE - 1, 3] = True
        coords, _ = click_many(NOWHERE, one)
        assert (coords == [3, SIZE - 1]).all()

    def test_each_slice_of_a_batch_gets_what_it_gets_alone(self):
        keys = jax.random.split(jax.random.key(1), 3)
        predicted = np.stack([blobs(1), NOWHERE, spiral()])
        mask = np.stack([blobs(2), NOWHERE, NOWHERE])
        batched = jax.jit(jax.vmap(next_click, in_axes=(0, 0, 0, None)))(keys, predicted, mask, EVERYWHERE)
        for index in range(3):
            alone = jax.jit(next_click)(keys[index], predicted[index], mask[index], EVERYWHERE)
            assert batched[1][index] == alone[1]
            np.testing.assert_array_equal(batched[0][index], alone[0])
        assert list(batched[1]) == [batched[1][0], EMPTY, NEGATIVE]


class TestKeys:
    def keys(self, starts, identities, depth=3, seed=0):
        batch = {
            "slices": np.ones((len(starts), depth), bool),
            "identity": np.array(identities, np.int32),
            "start": np.array(starts, np.int32),
        }
        keys = sample_keys(jax.random.key(seed), batch)
        return type(keys)(*(np.asarray(jax.random.key_data(x)) for x in keys))

    def test_a_slice_has_the_same_key_in_whatever_window_it_is_seen(self):
        near, far = self.keys([4, 9], [7, 7]), self.keys([0, 5], [3, 7], depth=5)
        np.testing.assert_array_equal(near.slices[0, 1], far.slices[1, 0])  # slice 5 of case 7
        np.testing.assert_array_equal(near.slices[1, 0], far.slices[1, 4])  # slice 9
        np.testing.assert_array_equal(self.keys([9], [7]).augment[0], near.augment[1])

    def test_slices_cases_and_seeds_have_their_own(self):
        keys = self.keys([0, 3, 0], [1, 1, 2])
        assert len(np.unique(keys.slices.reshape(9, -1), axis=0)) == 9
        assert len(np.unique(np.concatenate([keys.augment, keys.kind]), axis=0)) == 6
        assert (self.keys([0], [1], seed=1).slices != keys.slices[:1]).any()
