"""Random moves of training images: what they do to shapes whose place is known."""

import numpy as np
import pytest

from tfrobust.augmentation import INTERPOLATIONS, Augmentation


def test_shifts_move_whole_images_to_every_place():
    images = np.zeros((3, 5, 5, 1), np.float32)
    images[:, 2, 2] = [[1.0], [2.0], [3.0]]
    places = set()
    for step in range(40):
        for index, image in enumerate(Augmentation(shift=1)(images, seed=1, step=step)):
            ((row, column, _),) = np.argwhere(image)
            assert image[row, column] == index + 1
            places.add((int(row), int(column)))
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}


def test_flips_mirror_half_of_the_images():
    images = np.random.default_rng(0).uniform(size=(200, 3, 4, 2)).astype(np.float32)
    flipped = []
    for image, before in zip(Augmentation(flip=True)(images, seed=1, step=0), images, strict=True):
        flipped.append(np.array_equal(image, before[:, ::-1]))
        assert flipped[-1] or np.array_equal(image, before)
    # 200 fair coins: 100 give or take four deviations of 7.
    assert 70 < sum(flipped) < 130


def blobs(count):
    """Images [count, 29, 29, 1] of a soft spot eight pixels to the right of the centre."""
    rows, columns = np.mgrid[-14:15, -14:15]
    spot = np.exp(-(rows**2 + (columns - 8) ** 2) / 8).astype(np.float32)
    return np.repeat(spot[np.newaxis, :, :, np.newaxis], count, axis=0)


def place(images):
    """Angle in degrees and distance in pixels of each spot, seen from the centre, and its weight."""
    rows, columns = np.mgrid[-14:15, -14:15]
    weight = images[..., 0].sum(axis=(1, 2))
    y, x = (np.sum(images[..., 0] * axis, axis=(1, 2)) / weight for axis in (rows, columns))
    return np.rad2deg(np.arctan2(y, x)), np.hypot(y, x), weight


@pytest.mark.parametrize(("rotation", "zoom"), [(20, 0.0), (0.0, 0.2), (20, 0.2)])
def test_rotations_and_zooms_are_about_the_centre_and_fill_their_range(rotation, zoom):
    before = blobs(300)
    after = Augmentation(rotation=rotation, zoom=zoom)(before, seed=0, step=3)
    assert after.dtype == np.float32 and after.shape == before.shape and after.min() >= 0 and after.max() <= 1
    angle, distance, weight = place(after)
    for found, middle, most in ((angle, 0, rotation), (distance / 8, 1, zoom)):
        assert np.abs(found - middle).max() <= most + 0.02
        assert found.max() - middle >= 0.9 * most - 0.02 and middle - found.min() >= 0.9 * most - 0.02
    # The area that a zoomed spot covers grows as the square of its distance.
    np.testing.assert_allclose(np.sqrt(weight / place(before)[2]), distance / 8, rtol=0.03)


@pytest.mark.parametrize(("interpolation", "rounding"), [("bilinear", 0.0), ("nearest", 0.3)])
def test_elastic_fields_are_smooth_and_as_wide_as_they_say(interpolation, rounding):
    # Images whose values are their rows and columns show where a value came from; zeros of outside are left out.
    rows, columns = np.mgrid[:28, :28].astype(np.float32) + 100
    images = np.repeat(np.stack([rows, columns], axis=-1)[np.newaxis], 400, axis=0)
    moved = Augmentation(elastic=1.5, interpolation=interpolation)(images, seed=0, step=0)[:, 6:-6, 6:-6]
    field = moved - images[:, 6:-6, 6:-6]
    assert np.all(np.abs(field.mean(axis=0)) < 0.4) and np.all(np.abs(field.std(axis=0) - 1.5) < 0.25)
    assert abs(np.corrcoef(field[..., 0].ravel(), field[..., 1].ravel())[0, 1]) < 0.05
    # From one pixel to the next it changes little, and from one side to the other it is another.
    assert np.std(np.diff(field, axis=1)) < 0.4 + rounding
    far = np.corrcoef(field[:, 8, 0, 0], field[:, 8, 15, 0])[0, 1]
    assert abs(far) < 0.25
    assert np.corrcoef(field[:, 8, 7, 0], field[:, 8, 8, 0])[0, 1] > 0.95 - rounding / 3


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_elastic_fields_join_rotations_in_one_sampling(interpolation):
    # Not as high as wide, and of channels that differ; turned, its corners come from outside.
    before = np.random.default_rng(0).uniform(0.1, 1, (50, 9, 14, 2)).astype(np.float32)
    options = {"rotation": 20, "zoom": 0.1, "interpolation": interpolation}
    turned = Augmentation(**options)(before, seed=0, step=3)
    both = Augmentation(**options, elastic=1e-6)(before, seed=0, step=3)
    assert np.any(turned[:, 0, 0] == 0)
    # At the border, Keras mixes with the nearest pixel instead of 0.
    np.testing.assert_allclose(both[:, 3:-3, 4:-4], turned[:, 3:-3, 4:-4], atol=1e-4)
    np.testing.assert_array_equal(np.all(both == 0, axis=-1)[:, ::8, ::13], np.all(turned == 0, axis=-1)[:, ::8, ::13])


def test_deformed_images_are_zero_where_there_was_nothing():
    ones = np.ones([20, 12, 10, 1], np.float32)
    for interpolation in INTERPOLATIONS:
        after = Augmentation(elastic=2.0, interpolation=interpolation)(ones, seed=0, step=0)
        # As often as a normal number is below minus half a pixel of 2 pixels' deviation, or less by interpolation.
        assert 0.2 < np.mean(after[:, 0, 5] < 0.5) < 0.6
        assert np.all(after[:, 6, 5] == 1)


def test_the_nearest_pixel_is_a_pixel_of_the_image():
    before = blobs(20)
    after = Augmentation(rotation=20, zoom=0.2, interpolation="nearest")(before, seed=0, step=0)
    assert set(np.unique(after)) <= {0, *np.unique(before)} and np.abs(after - before).max() > 0.5


def test_white_stays_white_and_values_keep_their_range():
    # As adversarial training's fixed set, which may leave [0, 1], is moved too.
    images = np.stack([np.ones((9, 9, 1)), np.random.default_rng(0).uniform(-0.5, 1.5, (9, 9, 1))]).astype(np.float32)
    augmentation = Augmentation(rotation=45, zoom=0.3)
    moved = np.stack([augmentation(images, seed=0, step=step) for step in range(50)])
    assert moved[:, 0].max() == 1 and moved[:, 0].min() >= 0
    assert np.all(moved[:, 1].max(axis=(1, 2, 3)) <= images[1].max()) and moved[:, 1].max() > 1
    assert np.all(moved[:, 1].min(axis=(1, 2, 3)) >= images[1].min()) and moved[:, 1].min() < 0


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_images_of_a_batch_do_not_touch_each_other(interpolation):
    images = np.random.default_rng(0).random((4, 6, 7, 3)).astype(np.float32)
    augmentation = Augmentation(40, 0.3, elastic=1.0, shift=2, flip=True, interpolation=interpolation)
    whole = augmentation(images, seed=0, step=0)
    images[1:] = 0
    np.testing.assert_array_equal(augmentation(images, seed=0, step=0)[0], whole[0])


def test_nothing_by_default():
    images = np.random.default_rng(0).random((4, 6, 7, 3)).astype(np.float32)
    assert Augmentation()(images, seed=0, step=0) is images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": -1}, "rotation must be from 0 to 180 degrees, got -1"),
        ({"rotation": float("nan")}, "rotation must be from 0 to 180 degrees, got nan"),
        ({"zoom": 1}, "zoom must be 0 or more and below 1, got 1"),
        ({"elastic": -0.1}, "elastic must be 0 or more pixels, got -0.1"),
        ({"elastic": float("inf")}, "elastic must be 0 or more pixels, got inf"),
        ({"interpolation": "cubic"}, "interpolation must be one of bilinear, nearest, got 'cubic'"),
        ({"shift": 0.5}, "shift must be an integer of at least 0, got 0.5"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_a_shift_out_of_sight():
    with pytest.raises(ValueError, match=r"shift must be below 5 for images of 8 x 5, got 5"):
        Augmentation(shift=5)(np.zeros([1, 8, 5, 1], np.float32), seed=0, step=0)
    Augmentation(shift=4).require_fits((8, 5))
