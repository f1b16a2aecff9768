"""Checkpoints of the challenges that are damaged, or are of another network: one clear line says what is wrong."""

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import checkpoints, loading, tf1_checkpoints
from tfrobust.models import cifar10, mnist


def save_variables(prefix, variables):
    """A checkpoint of the given arrays by name."""
    prefix.parent.mkdir(exist_ok=True)
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(variables.values())
    )
    return prefix


def arrays(model):
    return {name: variable.numpy() for name, variable in tf1_checkpoints.variable_names(model).items()}


def error_of(path):
    with pytest.raises(loading.ModelLoadError) as raised:
        loading.load_classifier(path)
    message = str(raised.value)
    assert "\n" not in message and str(path) in message
    return message


def error_of_variables(tmp_path, variables):
    return error_of(save_variables(tmp_path / "checkpoint-1", variables))


def test_missing_unknown_and_misshapen_variables_are_named(tmp_path):
    variables = arrays(mnist.challenge_cnn(seed=0))
    del variables["Variable"], variables["Variable_3"]
    variables["Variable_5"] = np.zeros(7, np.float32)
    variables |= {"Variable_8": np.zeros(2, np.float32), "other/Adam": np.zeros(3, np.float32)}
    # Of training, and no fault.
    variables |= {"Variable_3/Adam_1": np.zeros(64, np.float32), "beta1_power": np.float32(0.5)}
    expected = (
        "does not fit its network; variables missing: Variable, Variable_3; unknown: Variable_8, other/Adam; "
        "of another shape: Variable_5 is [7], should be [1024]"
    )
    assert error_of_variables(tmp_path, variables).endswith(expected)


def test_values_that_are_no_numbers(tmp_path):
    variables = {**arrays(mnist.challenge_cnn(seed=0)), "Variable_7": np.array([b"text"] * 10)}
    assert "cannot be read (" in error_of_variables(tmp_path, variables)


def test_faults_of_a_residual_network_are_named(tmp_path):
    small = arrays(cifar10.challenge_resnet(seed=0, filters=(4, 4, 8, 12), units=2, num_classes=5))
    loaded = tf1_checkpoints.load(save_variables(tmp_path / "whole", small))
    assert loaded.output_shape == (None, 5) and len(loaded.weights) == len(small)

    name = "unit_2_1/sub2/BatchNorm/moving_mean"
    without = {key: value for key, value in small.items() if key != name}
    assert error_of_variables(tmp_path, without).endswith(f"does not fit its network; variables missing: {name}")
    misshapen = {**small, name: np.zeros(9, np.float32)}
    assert error_of_variables(tmp_path, misshapen).endswith(f"of another shape: {name} is [9], should be [8]")
    extra = {**small, "unit_2_1/sub3/DW": np.zeros(9, np.float32)}
    assert error_of_variables(tmp_path, extra).endswith("variables unknown: unit_2_1/sub3/DW")
    # Without a variable that says how wide the network is.
    name = "unit_3_0/sub1/conv1/DW"
    without = {key: value for key, value in small.items() if key != name}
    assert error_of_variables(tmp_path, without).endswith(f"is incomplete: missing {name}")
    odd = {**small, name: np.zeros([3, 3, 8, 11], np.float32)}
    assert "is of no such network: filters must be four" in error_of_variables(tmp_path, odd)


def test_long_lists_are_cut(tmp_path):
    variables = {f"layer{i:02}/weights": np.zeros(1, np.float32) for i in range(12)}
    message = error_of_variables(tmp_path, variables)
    assert "is of no network of the challenges; its variables: layer00/weights, " in message
    assert message.endswith(", layer09/weights and 2 more")


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("remains", ["nothing", "half", "a damaged byte"])
def test_damaged_files(tmp_path, part, remains):
    prefix = tf1_checkpoints.save(mnist.challenge_cnn(seed=0), tmp_path / "checkpoint", global_step=5)
    file = tmp_path / f"checkpoint-5.{part}"
    content = bytearray(file.read_bytes())
    if remains == "a damaged byte":
        content[len(content) // 2] ^= 255
    file.write_bytes(content[: {"nothing": 0, "half": len(content) // 2}.get(remains)])
    assert error_of(tmp_path).startswith(f"checkpoint {prefix} cannot be read (")


def test_missing_data_file(tmp_path):
    prefix = tf1_checkpoints.save(mnist.challenge_cnn(seed=0), tmp_path / "checkpoint", global_step=5)
    (tmp_path / "checkpoint-5.data-00000-of-00001").unlink()
    assert error_of(tmp_path).startswith(f"checkpoint {prefix} cannot be read (")


def test_damage_of_our_own_checkpoints_is_not_taken_for_the_challenges(tmp_path):
    (tmp_path / "checkpoint-3.index").write_bytes(b"damaged")
    assert tf1_checkpoints.is_checkpoint(tmp_path)
    checkpoints.save_architecture(tmp_path, mnist.challenge_cnn(seed=0))
    assert not tf1_checkpoints.is_checkpoint(tmp_path)
