"""Windows of generated patients: the same from the same number, with labels that agree with the tissues."""

from dataclasses import replace

import numpy as np
import pytest

from samjax.data.labels import EDEMA, ENHANCING, NON_ENHANCING
from samjax.data.synthetic.anatomy import INSIDE
from samjax.data.synthetic.head_bank import build_heads
from samjax.data.synthetic.lattice import Lattice
from samjax.data.synthetic.lesions import KINDS, LABELS, PARTS, displaced, draw_lesion, grow
from samjax.data.synthetic.windows import MARGIN, DrawWindow, training_windows
from tests.data.synthetic.heads import ball_head

DEPTH, SIZE = 2, 96


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    build_heads(folder, 2, 1, progress=False, make=ball_head)
    return DrawWindow(folder, (0, 1), DEPTH, SIZE, seed=5, empty_share=0.0)


@pytest.fixture(scope="module")
def samples(draw):
    return [draw(number) for number in range(12)]


def within(sample):
    return {name: sample[name][MARGIN : MARGIN + DEPTH] for name in ("head", "tumour")}


def test_a_number_gives_one_window_in_any_order_and_others_another(draw, samples):
    again = draw(3)
    for name, value in samples[3].items():
        np.testing.assert_array_equal(again[name], value)
    assert any((again["labels"] != other["labels"]).any() for other in (samples[2], samples[4]))


def test_batches_do_not_depend_on_workers(draw):
    chain = training_windows(draw, epoch=4, batch=2)
    with chain.to_iter(workers=1, epochs=1) as batches:
        others = list(batches)
    for index, batch in enumerate(others):
        for name, value in chain.get(0, index).items():
            np.testing.assert_array_equal(batch[name], value)


def test_windows_show_a_tumour_or_none_as_asked(draw, samples):
    assert all(sample["labels"].any() for sample in samples)
    empty = replace(draw, empty_share=0.999)
    assert not any(empty(number)["labels"].any() for number in range(8))


def test_labels_agree_with_what_fills_the_voxels(samples):
    seen = set()
    for sample in samples:
        labels, tumour = sample["labels"], within(sample)["tumour"]
        seen |= set(np.unique(labels))
        opacity, first, second = tumour[..., 2], tumour[..., 0] % 16, tumour[..., 0] // 16
        assert (opacity[labels > 0] > 35).all()  # faint edema replaces little of the tissue that it is in
        assert (first < len(PARTS)).all()
        assert (second < len(PARTS)).all()
        for code in (EDEMA, ENHANCING, NON_ENHANCING):
            of_code = (LABELS[first] == code) | (LABELS[second] == code)
            assert of_code[labels == code].mean() > 0.95 if (labels == code).any() else True
    assert seen == {0, EDEMA, NON_ENHANCING, ENHANCING}


def test_a_stripped_scan_shows_brain_and_another_everything(draw):
    stripped, whole = (replace(draw, stripped_share=share)(1) for share in (1.0, 0.0))
    shown = stripped["head"][..., 1] >= INSIDE
    assert stripped["stripped"]
    assert not whole["stripped"]
    assert 0.2 < shown.mean() < 0.7
    assert (whole["head"][..., 1] >= INSIDE).all()
    assert not stripped["labels"][~shown[MARGIN : MARGIN + DEPTH]].any()
    assert whole["volumes"][0] > stripped["volumes"][0]


def test_windows_are_cropped_to_what_the_scan_shows(draw):
    for share in (1.0, 0.0):
        samples = [replace(draw, stripped_share=share, depth=60)(number) for number in range(6)]
        for sample in samples:
            rows, columns = sample["extent"]
            seen = sample["head"][..., 1] >= INSIDE if share else sample["head"][..., 0] > 0
            filled = [np.flatnonzero(seen.any(axis)) for axis in ((0, 2), (0, 1))]
            assert max(rows, columns) <= SIZE
            for places, length in zip(filled, (rows, columns), strict=True):
                assert places[0] < 0.35 * length
                assert places[-1] > 0.65 * length
        corners = [sample["head"][:, :6, :6, 0].any() for sample in samples]
        assert not all(corners)


def test_slices_far_apart_are_samples_of_one_patient(draw):
    batch = training_windows(replace(draw, depth=1), epoch=4, batch=8).get(0, 1)
    assert batch["head"].shape[:2] == (8, 1 + 2 * MARGIN)
    assert batch["labels"].shape[:2] == (8, 1)
    assert batch["identity"].tolist() == list(range(8, 16))
    assert (batch["volumes"][0] == batch["volumes"][3]).all()
    assert (batch["volumes"][0] != batch["volumes"][4]).any()
    # The middle slice of one sample is the neighbour of the next one's.
    np.testing.assert_array_equal(batch["head"][0, MARGIN + 1], batch["head"][1, MARGIN])
    assert (batch["head"][0, MARGIN] != batch["head"][1, MARGIN]).any()
    lacking = training_windows(replace(draw, depth=1), epoch=1, batch=8).get(0, 0)
    assert lacking["valid"].tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_grows_within_its_extent_with_shares_of_one(kind):
    rng = np.random.default_rng(4)
    lattice = Lattice(np.full(3, -48.0), 2 * np.eye(3), (48, 48, 48))
    nothing = np.zeros(lattice.shape, np.float32)
    for _ in range(4):
        lesion = draw_lesion(rng, kind, np.zeros(3), 10.0)
        grown = grow(lesion, lattice, nothing, nothing, nothing + 1)
        for name, field in vars(grown).items():
            assert field.min() >= 0, name
            assert field.max() <= 1 + 1e-6, name
        assert (grown.core + grown.halo).max() <= 1 + 1e-6
        far = np.abs(lattice.points()).max(axis=0) > lesion.extent
        assert grown.core[far].max(initial=0) < 0.5
        assert grown.halo[far].max(initial=0) < 0.5
        assert grown.core.max() > 0.9
        assert (grown.enhancing.max() > 0) or lesion.gaps > 0.6


def test_tissue_comes_from_nearer_the_centre_where_a_lesion_pushes(draw):
    lesion = replace(draw_lesion(np.random.default_rng(0), "solid", np.zeros(3), 10.0), push=0.4)
    points = Lattice(np.full(3, -20.0), 4 * np.eye(3), (11, 11, 11)).points()
    moved = displaced(points, lesion)
    assert (np.linalg.norm(moved, axis=0) <= np.linalg.norm(points, axis=0) + 1e-5).all()
    assert np.abs(moved - points).max() > 1


def test_edema_spares_grey_matter_and_fluid():
    rng = np.random.default_rng(2)
    lattice = Lattice(np.full(3, -40.0), 2 * np.eye(3), (40, 40, 40))
    lesion = replace(draw_lesion(rng, "necrotic", np.zeros(3), 10.0), edema=15.0, spared=0.6)
    plain = np.zeros(lattice.shape, np.float32)
    white, grey, fluid = (
        grow(lesion, lattice, g, f, plain + 1).halo.sum()
        for g, f in ((plain, plain), (plain + 1, plain), (plain, plain + 1))
    )
    assert fluid < 0.05 * white
    assert grey < 0.8 * white
