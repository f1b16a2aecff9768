"""Pictures of adversarial examples."""

import numpy as np

from train.summaries import save_strip, strip


def test_strip_has_three_rows_and_amplifies_the_difference():
    x = np.full((4, 2, 3, 1), 0.5, np.float32)
    x_adv = x + np.reshape([0.0, 0.1, -0.1, 0.3], (4, 1, 1, 1)).astype(np.float32)
    picture = strip(x, x_adv, epsilon=0.1)
    assert picture.shape == (6, 12, 1)
    np.testing.assert_allclose(picture[0, ::3, 0], 0.5)
    np.testing.assert_allclose(picture[2, ::3, 0], [0.5, 0.6, 0.4, 0.8])
    # No change is grey, epsilon white or black, and more than epsilon does not overflow.
    np.testing.assert_allclose(picture[4, ::3, 0], [0.5, 1.0, 0.0, 1.0], atol=1e-6)


def test_pictures_are_written_for_grey_and_colour(tmp_path):
    for channels in (1, 3):
        x = np.random.default_rng(0).random((3, 8, 8, channels), np.float32)
        path = tmp_path / f"{channels}.png"
        save_strip(path, x, x, 0.0, ["a", "b", "c"])
        assert path.read_bytes().startswith(b"\x89PNG")
