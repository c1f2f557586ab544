"""Generated pictures as samples: what a sample holds, that none comes twice, and that the held-out ones stand apart."""

import numpy as np
import pytest

from samjax.data.synthetic.pictures import (
    SMALLEST_SHARE,
    DrawPicture,
    FreshPictures,
    held_out_pictures,
    training_pictures,
)

SIZE, TARGETS = 64, 3


def drawn(chain, epoch: int = 0) -> dict[str, np.ndarray]:
    """An epoch's samples that count, one after another."""
    batches = [chain.get(epoch, index) for index in range(chain.length(epoch))]
    return {name: np.concatenate([batch[name][batch["valid"]] for batch in batches]) for name in batches[0]}


def pictures(chain, epoch: int = 0) -> list[bytes]:
    return [picture.tobytes() for picture in drawn(chain, epoch)["images"]]


@pytest.mark.parametrize("number", range(6))
def test_a_sample_asks_for_shapes_that_its_picture_shows(number):
    sample = DrawPicture(SIZE, TARGETS, seed=0)(number)
    assert (sample["images"].shape, sample["images"].dtype) == ((1, SIZE, SIZE, 3), np.uint8)
    assert (sample["ids"].shape, sample["ids"].dtype) == ((SIZE, SIZE), np.uint8)
    assert (sample["targets"].shape, sample["targets"].dtype) == ((TARGETS,), np.uint8)
    assert sample["identity"] == number
    targets = sample["targets"][sample["targets"] > 0]
    assert len(set(targets)) == len(targets) > 0
    assert all((sample["ids"] == target).mean() >= 0.95 * SMALLEST_SHARE for target in targets)


def test_a_picture_with_too_few_shapes_is_filled_up_with_0():
    sample = DrawPicture(SIZE, 200, seed=0)(0)
    present = sample["targets"] > 0
    assert 3 < present.sum() < 200
    assert not present[present.sum() :].any()


def test_targets_are_drawn_at_random_among_the_shapes():
    firsts = [DrawPicture(SIZE, 200, seed=0)(number)["targets"] for number in range(6)]
    assert any(np.any(np.diff(targets[targets > 0].astype(int)) < 0) for targets in firsts)
    few, many = (DrawPicture(SIZE, count, seed=0)(1)["targets"] for count in (3, 200))
    assert set(few) != set(np.sort(many[many > 0])[:3])


def test_epochs_never_repeat_a_picture():
    numbers = [FreshPictures(50).epoch(epoch) for epoch in range(20)]
    assert all(len(epoch) == 50 for epoch in numbers)
    assert len({number for epoch in numbers for number in epoch}) == 20 * 50

    chain = training_pictures(4, SIZE, TARGETS, seed=0, batch=3)
    seen = [picture for epoch in range(3) for picture in pictures(chain, epoch)]
    assert len(set(seen)) == len(seen) == 12


def test_hosts_share_an_epoch_without_overlap():
    whole = drawn(training_pictures(6, SIZE, TARGETS, seed=0, batch=2), 1)["identity"]
    parts = [drawn(training_pictures(6, SIZE, TARGETS, 0, 2, (host, 2)), 1)["identity"] for host in range(2)]
    assert sorted(np.concatenate(parts)) == sorted(whole) == list(range(6, 12))


def test_the_seed_decides_what_is_trained_on():
    first, again, other = (pictures(training_pictures(3, SIZE, TARGETS, seed, batch=3)) for seed in (0, 0, 1))
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_pictures_are_none_of_those_trained_on(seed):
    held_out = pictures(held_out_pictures(6, SIZE, TARGETS, batch=4))
    trained = [p for epoch in range(2) for p in pictures(training_pictures(6, SIZE, TARGETS, seed, batch=4), epoch)]
    assert len(set(held_out)) == 6
    assert not set(held_out) & set(trained)


def test_held_out_pictures_are_the_same_whatever_the_batch():
    one, other = (drawn(held_out_pictures(5, SIZE, TARGETS, batch)) for batch in (2, 4))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
    few = drawn(held_out_pictures(2, SIZE, TARGETS, 2))
    np.testing.assert_array_equal(few["images"], one["images"][:2])
