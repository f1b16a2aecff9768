"""Files of adversarial examples: exact round trips, and a reason for each file that is no valid attack."""

import io
import pickle

import numpy as np
import pytest

from tfrobust import datasets
from tfrobust.attack_files import FORMATS, AttackFileError, read, write

MNIST, CIFAR10 = FORMATS["mnist"], FORMATS["cifar10"]


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", "test", num_examples=50).images


@pytest.fixture(scope="module")
def photos():
    """Grey levels as CIFAR10's test set has them."""
    levels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3))
    return (levels / np.float32(255)).astype(np.float32)


def perturbed(images, epsilon, seed=1):
    """Within epsilon in float32, the border included."""
    noise = np.random.default_rng(seed).choice([-1, -0.5, 1], images.shape).astype(np.float32)
    return np.clip(images + np.float32(epsilon) * noise, 0, 1)


def refused(path, file_format, images, epsilon):
    with pytest.raises(AttackFileError) as raised:
        read(path, file_format, images, epsilon)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    return raised.value


def save(tmp_path, array):
    np.save(tmp_path / "attack.npy", array)
    return tmp_path / "attack.npy"


# Formats.


def test_shapes_and_units():
    assert MNIST.shape(MNIST.num_examples) == (10000, 784) and MNIST.white == 1
    assert CIFAR10.shape(CIFAR10.num_examples) == (10000, 32, 32, 3) and CIFAR10.white == 255
    assert FORMATS["digits"].shape(FORMATS["digits"].num_examples) == (360, 784)


def test_round_trip_is_exact(tmp_path, digits, photos):
    for file_format, images, epsilon in ((MNIST, digits, 0.3), (CIFAR10, photos, 8 / 255)):
        x_adv = perturbed(images, epsilon)
        write(tmp_path / "attack.npy", file_format, x_adv)
        array = np.load(tmp_path / "attack.npy")
        assert array.shape == file_format.shape(len(images)) and array.dtype == np.float64
        found = read(tmp_path / "attack.npy", file_format, images, epsilon)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, x_adv)


def test_what_is_written_passes_the_checks_of_the_original(tmp_path, digits, photos):
    # Their arithmetic: MNIST's natural pixels are float32, CIFAR10's uint8, and the file is as it was saved.
    for file_format, natural, images, epsilon in (
        (MNIST, digits.reshape(len(digits), -1), digits, 0.3),
        (CIFAR10, np.rint(photos * 255).astype(np.uint8), photos, 8.0),
    ):
        write(tmp_path / "attack.npy", file_format, perturbed(images, epsilon / file_format.white))
        array = np.load(tmp_path / "attack.npy")
        assert epsilon - 1e-4 < np.amax(np.abs(natural - array)) <= epsilon + 1e-4
        assert np.amin(array) >= -1e-4 and np.amax(array) <= file_format.white + 1e-4


@pytest.mark.parametrize("dtype", [np.float32, ">f8", np.float16])
def test_other_floats(tmp_path, digits, dtype):
    x_adv = perturbed(digits, 0.1).reshape(50, 784)
    found = read(save(tmp_path, x_adv.astype(dtype)), MNIST, digits, 0.101)
    np.testing.assert_array_equal(found.reshape(50, 784), x_adv.astype(dtype).astype(np.float32))


def test_whole_grey_levels(tmp_path, photos):
    # The original subtracts unsigned integers from each other: 3 - 5 = 254 there.
    levels = np.rint(photos * 255).astype(np.uint8)
    moved = np.where(levels > 247, levels - 8, levels + 8).astype(np.uint8)
    for array in (moved, moved.astype(np.int64)):
        found = read(save(tmp_path, array), CIFAR10, photos, 8 / 255)
        np.testing.assert_array_equal(found, (moved / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(read(save(tmp_path, levels), CIFAR10, photos, 0.0), photos)


def test_tolerance(tmp_path, digits):
    # Every pixel 0.30009 away, and as far out of range: the original lets both pass.
    x_adv = np.where(digits < 0.5, digits + 0.30009, digits - 0.30009)
    x_adv[0, 0, 0, 0] = -0.00009
    found = read(save(tmp_path, x_adv.reshape(50, 784)), MNIST, digits, 0.3)
    assert found[0, 0, 0, 0] == 0
    np.testing.assert_allclose(found, np.clip(x_adv, 0, 1), atol=1e-7)


def test_our_own_file(tmp_path, photos):
    x_adv = perturbed(photos, 8 / 255)
    np.savez_compressed(tmp_path / "x.npz", x_adv=x_adv, labels=np.zeros(20))
    np.testing.assert_array_equal(read(tmp_path / "x.npz", CIFAR10, photos, 8 / 255), x_adv)
    error = refused(tmp_path / "x.npz", CIFAR10, photos, 7 / 255)
    assert error.verdict[1] == "maximum perturbation allowed: 7.0"
    np.savez(tmp_path / "x.npz", x_adv=x_adv.reshape(20, -1))
    expected = "Invalid shape: expected (20, 32, 32, 3), found (20, 3072)"
    assert refused(tmp_path / "x.npz", CIFAR10, photos, 8 / 255).verdict == (expected,)
    np.savez(tmp_path / "x.npz", images=x_adv)
    assert "its array 'x_adv'" in refused(tmp_path / "x.npz", CIFAR10, photos, 8 / 255).reason


def test_writes_only_what_is_valid(tmp_path, digits):
    for wrong in (digits.reshape(50, 784), digits[:0], digits * 1.01, digits * np.nan, np.zeros((2, 32, 32, 3))):
        with pytest.raises(ValueError, match="x_adv must have"):
            write(tmp_path / "attack.npy", MNIST, wrong)
    assert not list(tmp_path.iterdir())


# Refused in the words of the original.


def test_shape(tmp_path, digits, photos):
    error = refused(save(tmp_path, np.zeros((50, 28, 28))), MNIST, digits, 0.3)
    assert error.verdict == ("Invalid shape: expected (50,784), found (50, 28, 28)",)
    error = refused(save(tmp_path, np.zeros((20, 3072))), CIFAR10, photos, 0.1)
    assert error.verdict == ("Invalid shape: expected (20, 32, 32, 3), found (20, 3072)",)
    error = refused(save(tmp_path, np.zeros((20, 784))), MNIST, digits, 0.3)
    assert error.verdict == ("Invalid shape: expected (50,784), found (20, 784)",)
    assert "--num_eval_examples=20" in error.reason
    for shape in ((0, 784), (51, 784), ()):
        assert "--num_eval_examples" not in refused(save(tmp_path, np.zeros(shape)), MNIST, digits, 0.3).reason


@pytest.mark.parametrize("value", [1.001, -0.001, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_range(tmp_path, digits, photos, name, value):
    file_format, images = FORMATS[name], {"mnist": digits, "cifar10": photos}[name]
    array = file_format.to_array(perturbed(images, 0.01))
    array[3:5].flat[7] = value + (file_format.white - 1 if value > 1 else 0)
    error = refused(save(tmp_path, array), file_format, images, 0.3)
    found = f"[{np.amin(array)}, {np.amax(array)}]"
    assert error.verdict == (f"Invalid pixel range. Expected [0, {file_format.white}], found {found}",)
    word = "out of range" if np.isfinite(value) else "not finite"
    assert error.reason == f"pixels are {word} in 1 of {len(images)} images, the first being number 3"


def test_distance(tmp_path, digits, photos):
    for file_format, images, epsilon in ((MNIST, digits, 0.3), (CIFAR10, photos, 8.0)):
        array = file_format.natural(images)
        pixel = array[7:8].reshape(-1)
        pixel[5] += (epsilon + 0.001) * (1 if pixel[5] < file_format.white / 2 else -1)
        array[7] = pixel.reshape(array.shape[1:])
        error = refused(save(tmp_path, array), file_format, images, epsilon / file_format.white)
        found, allowed = error.verdict
        assert float(found.removeprefix("maximum perturbation found: ")) == pytest.approx(epsilon + 0.001)
        assert allowed == f"maximum perturbation allowed: {epsilon}"
        assert error.reason == f"the perturbation is too large in 1 of {len(images)} images, the first being number 7"


def test_wrong_units_are_named(tmp_path, digits, photos):
    error = refused(save(tmp_path, 255 * digits.reshape(50, 784)), MNIST, digits, 0.3)
    assert "divide them by 255" in error.reason and "found [0.0, 255.0]" in error.verdict[0]
    assert "multiply them by 255" in refused(save(tmp_path, photos), CIFAR10, photos, 8 / 255).reason


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_lost_order_is_named(tmp_path, digits, photos, name):
    file_format, images = FORMATS[name], {"mnist": digits, "cifar10": photos}[name]
    array = file_format.to_array(perturbed(images, 0.1))
    reason = refused(save(tmp_path, array[::-1]), file_format, images, 0.1).reason
    assert "of 20 of these, 20 lie within epsilon of another test image" in reason and "official order" in reason
    # Images of something else are not in another order.
    assert "order" not in refused(save(tmp_path, file_format.white - array), file_format, images, 0.1).reason


# What the original does not look at.


def test_types_that_are_no_pixels(tmp_path, digits):
    for dtype in (bool, complex, "U4", [("a", float)], "M8[D]"):
        reason = refused(save(tmp_path, np.zeros((50, 784), dtype)), MNIST, digits, 0.3).reason
        assert reason.startswith("pixels must be real numbers, got ")


class Tells:
    """What is unpickled says so."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_nothing_is_unpickled(tmp_path, digits):
    objects = np.array([Tells()] * 50, dtype=object)
    assert "cannot be read" in refused(save(tmp_path, objects), MNIST, digits, 0.3).reason
    np.savez(tmp_path / "x.npz", x_adv=objects)
    assert "cannot be read" in refused(tmp_path / "x.npz", MNIST, digits, 0.3).reason
    (tmp_path / "attack.npy").write_bytes(pickle.dumps(Tells()))
    assert "a pickle" in refused(tmp_path / "attack.npy", MNIST, digits, 0.3).reason


@pytest.mark.parametrize("name", ["attack.npy", "attack.npz"])
def test_damaged_files(tmp_path, digits, name):
    content, path = io.BytesIO(), tmp_path / name
    if name.endswith("npy"):
        write(content, MNIST, digits)
    else:
        np.savez(content, x_adv=digits)
    whole = content.getvalue()
    for damaged in (b"", b"0.1 0.2\n", whole[:7], whole[:60], whole[: len(whole) // 2], whole[:-8]):
        path.write_bytes(damaged)
        assert refused(path, MNIST, digits, 0.3).verdict == ()
    path.write_bytes(whole)
    read(path, MNIST, digits, 0.3)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (10",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 784)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (10**30, 784)}",
        b"  {\n 'descr':\n",
    ],
)
def test_damaged_headers(tmp_path, digits, header):
    (tmp_path / "attack.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert "cannot be read" in refused(tmp_path / "attack.npy", MNIST, digits, 0.3).reason


def test_a_header_that_promises_too_much(tmp_path, digits):
    with open(tmp_path / "attack.npy", "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**15, 784)}
        np.lib.format.write_array_header_1_0(file, header)
    assert "cannot be read" in refused(tmp_path / "attack.npy", MNIST, digits, 0.3).reason


def test_no_file(tmp_path, digits):
    assert refused(tmp_path / "attack.npy", MNIST, digits, 0.3).reason == "there is no such file"
    assert "cannot be read" in refused(tmp_path, MNIST, digits, 0.3).reason
