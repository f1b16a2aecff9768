"""Cost of a Deep Defense training step, beside a plain one and the same step written naively, and of rho2.

    python -m tests.benchmarks.deep_defense

The naive step computes every class's gradient in every iteration, differentiably, for all images of the batch, and
takes the nearest one: what the paper's equations say, one backward pass for each class. The regulariser's
value is printed for both. Peak memory is that of a process of its own that makes a few steps.
"""

import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from tests.benchmarks import peers
from tests.benchmarks.memory import peak_memory
from tfrobust import datasets, metrics
from tfrobust.models import deep_defense as networks
from tfrobust.perturbation_size import relative_size
from tfrobust.trainers import AdversarialTrainer, DeepDefense, DeepDefenseTrainer

NETWORKS = {"lenet": networks.lenet, "mlp": networks.mlp}
OVERSHOOT = 0.02


class NaiveDeepDefense(DeepDefense):
    """The same regulariser; every class is differentiated in every iteration."""

    def __call__(self, logits_fn, x, y, choose_fn=None):
        """See `DeepDefense.__call__`."""
        y = tf.cast(y, tf.int64)
        is_wrong = tf.argmax(logits_fn(x), axis=-1) != y
        total, crossed = tf.zeros_like(x), tf.zeros_like(is_wrong)
        for _ in range(self.iterations):
            step = self._step(logits_fn, x + total, y, is_wrong)
            total += tf.where(tf.reshape(crossed, [-1, 1, 1, 1]), 0.0, step)
            is_y = tf.argmax(logits_fn(x + (1 + OVERSHOOT) * total), axis=-1) == y
            crossed |= is_y == is_wrong
        size = relative_size((1 + OVERSHOOT) * total, x, "l2", self.center)
        return self.strength * tf.exp(tf.where(is_wrong, float(self.d), -float(self.c)) * size)

    def _step(self, logits_fn, x, y, is_wrong):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            logits = logits_fn(x)
            each = tf.unstack(logits, axis=1)
        gradients = tf.stack([tape.gradient(logit, x) for logit in each], axis=1)
        source = tf.where(is_wrong, tf.argmax(logits, axis=-1), y)
        difference = logits - tf.gather(logits, source, batch_dims=1)[:, tf.newaxis]
        w = gradients - tf.gather(gradients, source, batch_dims=1)[:, tf.newaxis]
        squares = tf.reduce_sum(tf.square(w), axis=[2, 3, 4])
        is_source = tf.one_hot(source, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
        distance = tf.where(is_source, np.inf, tf.abs(difference) / tf.sqrt(tf.where(is_source, 1.0, squares)))
        target = tf.where(is_wrong, y, tf.argmin(distance, axis=-1))
        f, w, squares = (tf.gather(part, target, batch_dims=1) for part in (difference, w, squares))
        # An image that has reached its class has no boundary to step onto: 0 / 0, whose gradient would be no number.
        return tf.reshape(tf.abs(f) / tf.where(squares > 0, squares, 1.0), [-1, 1, 1, 1]) * w


def trainer_of(kind: str, model, iterations: int, center):
    """A compiled trainer: "plain", "tfrobust" or "naive"."""
    options = {"seed": 0, "natural_accuracy_every": 0, "precision": flags.FLAGS.precision}
    if kind == "plain":
        trainer = AdversarialTrainer(model, None, **options)
    else:
        regularizer = {"tfrobust": DeepDefense, "naive": NaiveDeepDefense}[kind]
        trainer = DeepDefenseTrainer(model, regularizer(iterations=iterations, center=center), **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile(keras.optimizers.SGD(0.0, momentum=0.9), loss)
    return trainer


def trained_network(name: str, train: datasets.Arrays, center):
    """The network after an epoch of plain training: DeepFool needs a few iterations, as it does on a reference."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name](seed=0, mean_image=255 * center, input_scale=1.0)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train.images, train.labels, batch_size=100, epochs=1, verbose=0)
    return model


def batches_of(train: datasets.Arrays):
    """The batches that are measured."""
    size = flags.FLAGS.batch_size
    starts = range(0, size * flags.FLAGS.batches, size)
    return [(train.images[start : start + size], train.labels[start : start + size]) for start in starts]


def measure(name: str, train: datasets.Arrays, test: datasets.Arrays) -> keras.Model:
    """Prints one network's rows; returns the network."""
    center = train.images.mean(axis=0, dtype=np.float64)
    model = trained_network(name, train, center)
    iterations, batches = flags.FLAGS.iterations, batches_of(train)
    kinds = ("plain", "tfrobust", "naive")
    trainers = {kind: trainer_of(kind, model, iterations, center) for kind in kinds}
    values = {kind: trainer.train_on_batch(*batches[0], return_dict=True) for kind, trainer in trainers.items()}
    best = dict.fromkeys(kinds, np.inf)
    for _ in range(flags.FLAGS.repeats):
        for kind, trainer in trainers.items():
            start = time.perf_counter()
            for x, y in batches:
                trainer.train_on_batch(x, y)
            best[kind] = min(best[kind], (time.perf_counter() - start) / len(batches) / flags.FLAGS.batch_size * 1000)
    print(f"\n{name}, {iterations} iterations, batches of {flags.FLAGS.batch_size}")
    for kind in kinds:
        ratio = f"{best[kind] / best['plain']:.1f} times a plain step"
        term = f", regulariser {values[kind]['regularizer']:.5f}" if "regularizer" in values[kind] else ""
        print(f"  {kind:<9} {best[kind]:8.3f} s for 1,000 images, {ratio}{term}", flush=True)
    print(f"  against the naive step: {best['naive'] / best['tfrobust']:.1f} times as fast (target 3)")
    meter = metrics.RhoMeter(model, iterations=50, center=center, precision=flags.FLAGS.precision)
    meter(test.images[:1000])
    start = time.perf_counter()
    found = meter(test.images)
    print(
        f"  rho2 of {len(test.labels)} images, 50 iterations: {found.value:.4f} in {time.perf_counter() - start:.1f} s"
    )
    return model


def print_peak_memory(name: str, path: str) -> None:
    """Prints the largest resident memory of processes that make three steps of the network at `path`."""
    shared = [f"--networks={name}", f"--model={path}"]
    shared += [f"--{flag}={flags.FLAGS[flag].value}" for flag in ("batch_size", "precision", "threads")]
    for kind in ("plain", "tfrobust", "naive"):
        for iterations in (1, 5, 10) if kind != "plain" else (0,):
            arguments = [*shared, f"--alone={kind}", f"--iterations={max(iterations, 1)}"]
            command = [sys.executable, "-m", "tests.benchmarks.deep_defense", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"  {kind}, {iterations} iterations: {done.stdout.strip()}", flush=True)


def main(_) -> None:
    """Measures the networks of the flags."""
    values = flags.FLAGS
    threads = peers.prepare(values.threads)
    if values.alone:
        # Images that take no memory to read: the peak is that of the steps.
        train = datasets.load("digits", "train")
        model = keras.models.load_model(values.model, compile=False)
        trainer = trainer_of(values.alone, model, values.iterations, 0.0)
        for x, y in batches_of(train)[:3]:
            trainer.train_on_batch(x, y)
        print(f"{peak_memory() / 2**20:.0f} MiB at most")
        return
    train, test = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    print(f"{threads} threads; TensorFlow {tf.__version__}, Keras {keras.__version__}")
    for name in values.networks:
        model = measure(name, train, test)
        if values.memory:
            with tempfile.TemporaryDirectory() as folder:
                model.save(f"{folder}/model.keras")
                print_peak_memory(name, f"{folder}/model.keras")


if __name__ == "__main__":
    flags.DEFINE_list("networks", list(NETWORKS), "Which networks.")
    flags.DEFINE_integer("iterations", 5, "Of DeepFool.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 100, "Images in a step.", lower_bound=1)
    flags.DEFINE_integer("batches", 10, "Steps in a round.", lower_bound=1)
    flags.DEFINE_integer("repeats", 3, "Rounds, of which the best counts.", lower_bound=1)
    flags.DEFINE_enum("precision", "auto", ["auto", "float32", "bfloat16"], "Of the search for the nearest boundary.")
    flags.DEFINE_bool("memory", True, "Measure peak memory too.")
    flags.DEFINE_enum("alone", None, ["plain", "tfrobust", "naive"], "Make three steps and print the peak memory.")
    flags.DEFINE_string("model", None, "The network of --alone.")
    flags.DEFINE_integer("threads", 0, "Threads; 0 for all cores of this process.", lower_bound=0)
    app.run(main)
