"""Checkpoints of the challenges, against graphs of TensorFlow 1 that are written here from their description."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import loading, tf1_checkpoints
from tfrobust.models import cifar10, mnist
from tfrobust.trainers.adversarial import decaying_kernels

v1 = tf.compat.v1


# The networks of the challenges in TensorFlow 1: pixels and logits, with random weights.


def mnist_graph():
    x = v1.placeholder(tf.float32, [None, 784])
    shapes = [[5, 5, 1, 32], [32], [5, 5, 32, 64], [64], [3136, 1024], [1024], [1024, 10], [10]]
    k1, b1, k2, b2, k3, b3, k4, b4 = (
        v1.Variable(v1.random_normal(shape, stddev=0.1), use_resource=False) for shape in shapes
    )
    h = tf.nn.relu(tf.nn.conv2d(tf.reshape(x, [-1, 28, 28, 1]), k1, 1, "SAME") + b1)
    h = tf.nn.max_pool2d(h, 2, 2, "SAME")
    h = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(h, k2, 1, "SAME") + b2), 2, 2, "SAME")
    h = tf.nn.relu(tf.matmul(tf.reshape(h, [-1, 3136]), k3) + b3)
    return x, tf.matmul(h, k4) + b4


def cifar10_graph(filters, units=5):
    def kernel(*shape):
        deviation = (2 / np.prod(shape[:-1])) ** 0.5
        return v1.get_variable("DW", shape, initializer=v1.random_normal_initializer(stddev=deviation))

    def convolution(x, size, stride=1):
        return tf.nn.conv2d(x, kernel(3, 3, x.shape[-1], size), stride, "SAME")

    def activation(x):
        with v1.variable_scope("BatchNorm"):
            size, spread = [x.shape[-1]], v1.random_uniform_initializer
            beta = v1.get_variable("beta", size, initializer=spread(-0.5, 0.5))
            gamma = v1.get_variable("gamma", size, initializer=spread(0.8, 1.2))
            mean = v1.get_variable("moving_mean", size, initializer=spread(-0.5, 0.5), trainable=False)
            variance = v1.get_variable("moving_variance", size, initializer=spread(0.5, 2.0), trainable=False)
        x = v1.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon=1e-3, is_training=False)[0]
        return tf.where(x < 0, 0.1 * x, x)

    def unit(x, size, stride, first):
        shortcut = x
        with v1.variable_scope("shared_activation" if first else "residual_only_activation"):
            x = activation(x)
        if first:
            shortcut = x
        with v1.variable_scope("sub1/conv1"):
            x = convolution(x, size, stride)
        with v1.variable_scope("sub2"):
            x = activation(x)
            with v1.variable_scope("conv2"):
                x = convolution(x, size)
        more = size - shortcut.shape[-1]
        if more:
            shortcut = tf.nn.avg_pool2d(shortcut, stride, stride, "VALID")
            shortcut = tf.pad(shortcut, [[0, 0], [0, 0], [0, 0], [more // 2] * 2])
        return x + shortcut

    pixels = v1.placeholder(tf.float32, [None, 32, 32, 3])
    x = tf.image.per_image_standardization(pixels)
    with v1.variable_scope("input/init_conv"):
        x = convolution(x, filters[0])
    for stage, (size, stride) in enumerate(zip(filters[1:], (1, 2, 2), strict=True), start=1):
        for i in range(units):
            with v1.variable_scope(f"unit_{stage}_{i}"):
                x = unit(x, size, stride if i == 0 else 1, first=(stage, i) == (1, 0))
    with v1.variable_scope("unit_last"):
        x = tf.reduce_mean(activation(x), [1, 2])
    with v1.variable_scope("logit"):
        biases = v1.random_normal_initializer()
        return pixels, tf.matmul(x, kernel(filters[3], 10)) + v1.get_variable("biases", [10], initializer=biases)


def write_like_the_challenge(folder, network, images, optimizer=None):
    """Saves what a challenge's training would, and returns the logits of `images`; no optimizer, no global step."""
    with tf.Graph().as_default(), v1.Session() as session, v1.variable_scope("", use_resource=False):
        v1.set_random_seed(0)
        x, logits = network()
        if optimizer is not None:
            step = v1.train.get_or_create_global_step()
            optimizer.minimize(tf.reduce_sum(logits**2), global_step=step)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, f"{folder}/checkpoint", global_step=99900)
        return session.run(logits, {x: images})


def random_pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


@pytest.fixture(scope="module")
def mnist_run(tmp_path_factory):
    """A folder with a checkpoint, images [B, 28, 28, 1] and their logits."""
    folder = tmp_path_factory.mktemp("mnist")
    images = random_pixels(10, 28, 28, 1) / 255
    optimizer = v1.train.AdamOptimizer(1e-4)
    return folder, images, write_like_the_challenge(folder, mnist_graph, images.reshape(10, 784), optimizer)


def assert_same_logits(model, images, logits):
    """To 1e-5 of the largest."""
    outputs = model(images, training=False)
    np.testing.assert_allclose(outputs, logits, rtol=0, atol=1e-5 * np.abs(logits).max())


# Reading.


def test_mnist_network(mnist_run):
    folder, images, logits = mnist_run
    names = {name for name, _ in tf.train.list_variables(str(folder / "checkpoint-99900"))}
    assert {"Variable_7", "Variable_7/Adam", "Variable_7/Adam_1", "beta1_power", "global_step"} < names
    assert_same_logits(tf1_checkpoints.load(folder), images, logits)


def residual_network(folder, filters):
    """The imported classifier, compared with the original graph on random images, and the checkpoint's names."""
    images = random_pixels(6, 32, 32, 3)
    optimizer = v1.train.MomentumOptimizer(0.1, 0.9)
    logits = write_like_the_challenge(folder, lambda: cifar10_graph(filters), images, optimizer)
    model = tf1_checkpoints.load(folder)
    assert_same_logits(model, images / 255, logits)
    return model, {name for name, _ in tf.train.list_variables(str(folder / "checkpoint-99900"))}


def test_narrow_residual_network(tmp_path):
    model, names = residual_network(tmp_path, cifar10.NARROW)
    assert {"unit_3_4/sub2/conv2/DW/Momentum", "unit_2_0/residual_only_activation/BatchNorm/gamma/Momentum"} < names
    assert len(names) == 157 + 95 + 1 and len(model.variables) == 157


@pytest.mark.slow
def test_wide_residual_network(tmp_path):
    model, _ = residual_network(tmp_path, cifar10.WIDE)
    assert sum(v.numpy().size for v in model.trainable_variables) == 45_901_914


def test_checkpoint_without_optimizer_and_step(tmp_path, mnist_run):
    _, images, _ = mnist_run
    logits = write_like_the_challenge(tmp_path, mnist_graph, images.reshape(10, 784))
    assert len(tf.train.list_variables(str(tmp_path / "checkpoint-99900"))) == 8
    assert_same_logits(tf1_checkpoints.load(tmp_path), images, logits)


def test_every_way_to_name_a_checkpoint(mnist_run):
    folder, images, logits = mnist_run
    prefix = folder / "checkpoint-99900"
    files = sorted(folder.glob("checkpoint-99900.*"))
    assert len(files) == 3  # index, data and the graph
    for path in (folder, str(folder), prefix, str(prefix), *files):
        assert tf1_checkpoints.is_checkpoint(path)
        assert tf1_checkpoints.find(path) == str(prefix)
    for path in (folder, str(prefix), files[0]):
        assert_same_logits(loading.load_classifier(path), images, logits)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ('model_checkpoint_path: "checkpoint-300"\n', "checkpoint-300"),
        ('all_model_checkpoint_paths: "x"\nmodel_checkpoint_path: "/home/a/m/checkpoint-600"\n', "checkpoint-600"),
        ('model_checkpoint_path: "C:\\\\m\\\\checkpoint-600"\n', "checkpoint-600"),
        ('model_checkpoint_path: "/home/a/m/checkpoint-900"\n', "checkpoint-10000"),
        ("\0damaged", "checkpoint-10000"),
        (None, "checkpoint-10000"),
    ],
)
def test_newest_of_a_folder(tmp_path, listed, expected):
    for name in ("checkpoint-300", "checkpoint-600", "checkpoint-10000", "final"):
        (tmp_path / f"{name}.index").touch()
    if listed is not None:
        (tmp_path / "checkpoint").write_text(listed)
    assert tf1_checkpoints.find(tmp_path) == str(tmp_path / expected)


def test_what_is_no_checkpoint_of_a_challenge(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    tf.train.Checkpoint(v=tf.Variable(1.0)).write(str(tmp_path / "checkpoint-7"))
    for path in (tmp_path, tmp_path / "checkpoint-7", tmp_path / "empty", tmp_path / "file.txt", tmp_path / "nothing"):
        assert not tf1_checkpoints.is_checkpoint(path)
    with pytest.raises(tf1_checkpoints.TF1CheckpointError, match=r"there is no checkpoint at .*empty"):
        tf1_checkpoints.load(tmp_path / "empty")


# Writing.


SMALL = (4, 4, 8, 12)


@pytest.mark.parametrize("network", ["mnist", "cifar10"])
def test_the_original_restores_what_we_save(tmp_path, network):
    if network == "mnist":
        model, graph, images, scale = mnist.challenge_cnn(seed=0), mnist_graph, random_pixels(3, 28, 28, 1) / 255, 1
    else:
        model = cifar10.challenge_resnet(seed=0, filters=SMALL, units=2)
        graph, images, scale = lambda: cifar10_graph(SMALL, units=2), random_pixels(3, 32, 32, 3) / 255, 255
    export = tmp_path / "model.keras"
    model.save(export)
    prefix = tf1_checkpoints.save(keras.models.load_model(export), tmp_path / "run" / "checkpoint", global_step=1200)
    assert prefix == str(tmp_path / "run" / "checkpoint-1200") == tf.train.latest_checkpoint(str(tmp_path / "run"))
    with tf.Graph().as_default(), v1.Session() as session, v1.variable_scope("", use_resource=False):
        step = v1.train.get_or_create_global_step()
        x, logits = graph()
        # Of all variables: that the original reads none that is missing is part of what is tested.
        v1.train.Saver().restore(session, prefix)
        shape = [-1, *x.shape[1:]]
        found, restored = session.run([logits, step], {x: images.reshape(shape) * scale})
    assert restored == 1200
    assert_same_logits(model, images, found)
    loaded = loading.load_classifier(tmp_path / "run")
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_that_decay_are_those_that_the_original_names_so():
    model = cifar10.challenge_resnet(seed=0, filters=SMALL)
    names = tf1_checkpoints.variable_names(model)
    decayed = {id(variable) for variable in decaying_kernels(model)}
    assert {name for name, variable in names.items() if id(variable) in decayed} == {n for n in names if "DW" in n}
    assert len(decayed) == 32


def test_other_models_have_no_original_names(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()], name="mine")
    with pytest.raises(ValueError, match=r"model must be a challenge_cnn or a challenge_resnet, .* 'mine'"):
        tf1_checkpoints.save(model, tmp_path / "checkpoint", global_step=0)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(tf1_checkpoints.TF1CheckpointError, match=r"checkpoint .*checkpoint-0 cannot be written"):
        tf1_checkpoints.save(mnist.challenge_cnn(seed=0), tmp_path / "file" / "checkpoint", global_step=0)
