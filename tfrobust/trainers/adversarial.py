"""Adversarial training: the outer minimisation of the saddle-point problem."""

import math
from typing import Literal

import keras
import tensorflow as tf

from tfrobust import relu_windows, seeds
from tfrobust.attacks.base import Attack, scaled
from tfrobust.checks import require_integer
from tfrobust.pixels import as_value_error, require_pixels
from tfrobust.precision import AttackTwin, Precision, in_training, inference
from tfrobust.trainers import inputs, replicas

# Set the seeds of dropout and of validation apart from those of the attack's restarts.
DROPOUT, VALIDATION = -1, -2


class AdversarialTrainer(keras.Model):
    """Trains a classifier on adversarial examples of itself (Madry et al. 2018, section 2.1).

    Every `train_step` replaces its batch by the attack's result and hands it to `keras.Model.train_step`, so loss
    scaling, metrics, `fit`, callbacks and distribution strategies are Keras's. As in the original, the model sees the
    adversarial batch only, but for `clean_weight`. The classifier is a plain keras.Model that is saved and served
    without this class.

        trainer = AdversarialTrainer(classifier, PGD(ThreatModel("linf", 0.3), steps=7, step_size=0.1), seed=0)
        trainer.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        trainer.fit(batches)
        classifier.save("robust.keras")

    The logs tell loss and metrics of the adversarial batch, but `val_loss` and its like are of natural images, by which
    callbacks would stop early and keep the least robust weights: give them a `validation_attack`.

    Args:
      classifier: a built keras.Model, [B, H, W, C] pixels -> [B, K] logits of two classes or more. Layers of it that
        augment images do so in training, and not while it is attacked. Layers are to be exchanged or extended (LoRA)
        before the trainer is made.
      attack: the inner maximisation; None for natural training.
      seed: an integer from 0 up, of the attack's noise and of dropout; step and replica are folded in, so that a
        resumed run sees the same. Other layers with randomness, and dropout in a classifier that the twin cannot
        train, have generators of their own.
      epsilon_warmup_steps: steps over which the attack's epsilon and step size grow linearly from 0 to their values.
        Steps are the optimizer's, so that compiling with a new one begins again.
      natural_accuracy_every: the natural accuracy of the batch, which costs one more forward pass, is measured at every
        so many steps, and NaN where none was. 0 for never, which cannot be changed later.
      weight_decay: c of the penalty c/2 * (sum of squares of all trainable kernels), which is added to the loss; biases
        and normalisation have none, as in the original for CIFAR10.
      clean_weight: alpha of the mixed objective alpha J(x) + (1 - alpha) J(x_adv) (Goodfellow et al. 2015, section 6);
        0 trains on adversarial images only.
      validation_attack: what `evaluate` and the validation in `fit` attack images with, by the same noise for each
        batch; None for natural images.
      attack_batch_norm: which statistics batch normalisation uses during the attack: "inference", the moving ones, or
        "batch", those of the attacked batch, which every gradient then also puts into the moving ones, as in the
        original for CIFAR10. With "batch" the attack runs on the classifier itself, in float32.
      precision: of the attack and of the training pass, see `precision.AttackTwin`. Weights, their updates and the
        classifier itself are float32 whatever it is; also those of a classifier that was built in mixed precision.
      relu_window_share: the part of the images whose gradients, at each step of a PGD in linf, look as far beyond the
        thresholds of the first ReLU as the step is long; 0 for plain gradients, which `validation_attack` and attacks
        of other kinds always have. See `relu_windows.StepWindow`. Not to be changed later, nor the attack's norm.

    Raises:
      ValueError: for an `epsilon_warmup_steps` or `natural_accuracy_every` that is no integer from 0 up, a
        `weight_decay` below 0 or not finite, a `clean_weight` or `relu_window_share` that is not from 0 to 1, windows
        for another norm than linf, with `attack_batch_norm="batch"` or for a classifier that does not begin with a
        ReLU, an `attack_batch_norm` of another name, a seed that is no integer from 0 up and below 2^31, what is no
        attack or one toward the labels, or a classifier that is no keras.Model or returns probabilities.
    """

    # Attributes on which a compiled step of training or evaluation depends.
    decides_steps = frozenset(["attack", "attack_batch_norm", "validation_attack", "epsilon_warmup_steps"])
    decides_steps |= {"natural_accuracy_every", "clean_weight", "weight_decay", "seed"}
    # Names of metrics that have no value in evaluation.
    training_metrics = ("natural_accuracy",)

    def __init__(
        self,
        classifier: keras.Model,
        attack: Attack | None,
        *,
        seed: int,
        epsilon_warmup_steps: int = 0,
        natural_accuracy_every: int = 10,
        weight_decay: float = 0.0,
        clean_weight: float = 0.0,
        validation_attack: Attack | None = None,
        attack_batch_norm: Literal["inference", "batch"] = "inference",
        precision: Precision = "auto",
        relu_window_share: float = 0.0,
    ):
        # Float32, too, where Keras's default is another: pixels would be rounded on their way to the classifier.
        super().__init__(name="adversarial_trainer", dtype="float32")
        require_integer("epsilon_warmup_steps", epsilon_warmup_steps, 0)
        require_integer("natural_accuracy_every", natural_accuracy_every, 0)
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more, got {weight_decay!r}")
        if not 0 <= clean_weight <= 1:
            raise ValueError(f"clean_weight must be from 0 to 1, got {clean_weight!r}")
        if attack_batch_norm not in ("inference", "batch"):
            raise ValueError(f"attack_batch_norm must be 'inference' or 'batch', got {attack_batch_norm!r}")
        require_integer("seed", seed, 0, 2**31 - 1)
        inputs.require_attack("attack", attack)
        inputs.require_attack("validation_attack", validation_attack)
        inputs.require_trainable(classifier)
        self.classifier = classifier
        self.attack = attack
        self.seed = seed
        self.epsilon_warmup_steps = epsilon_warmup_steps
        self.natural_accuracy_every = natural_accuracy_every
        self.weight_decay = weight_decay
        self.clean_weight = clean_weight
        self.validation_attack = validation_attack
        self.attack_batch_norm = attack_batch_norm
        window = self._window(attack, attack_batch_norm, relu_window_share)
        self.twin = AttackTwin(classifier, precision, window, parallel_filters=False)
        if natural_accuracy_every:
            self.natural_accuracy = _MeanOrNaN(name="natural_accuracy")
        # There is nothing else to build, and callbacks that restore weights ask.
        self.built = classifier.built

    @staticmethod
    def _window(attack, attack_batch_norm, share):
        if not 0 <= share <= 1:
            raise ValueError(f"relu_window_share must be from 0 to 1, got {share!r}")
        if not share or attack is None:
            return None
        if attack_batch_norm == "batch":
            raise ValueError("relu_window_share must be 0 with attack_batch_norm='batch', which attacks without a twin")
        if attack.threat.norm != "linf":
            raise ValueError(f"relu_window_share must be 0 in other norms than linf, got {attack.threat.norm!r}")
        return relu_windows.StepWindow(share)

    def __setattr__(self, name, value):
        if name == "natural_accuracy_every" and value and getattr(self, name, value) == 0:
            raise ValueError(f"natural_accuracy_every must stay 0 in a trainer that was made with 0, got {value!r}")
        # Keras keeps the compiled steps, which have read what decides them.
        if name in self.decides_steps and getattr(self, name, value) is not value:
            self.train_function = self.test_function = None
        super().__setattr__(name, value)

    def compile(self, *args, jit_compile="auto", **kwargs):
        """As `keras.Model.compile`, but "auto" never chooses XLA, whose convolutions are several times slower than
        oneDNN's on a CPU.

        Raises:
          ValueError: see `inputs.require_updates` and `inputs.require_loss_of_logits`.
        """
        super().compile(*args, jit_compile=False if jit_compile == "auto" else jit_compile, **kwargs)
        inputs.require_updates(self.optimizer)
        inputs.require_loss_of_logits(args[1] if len(args) > 1 else kwargs.get("loss"))

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`.

        Raises:
          ValueError: for images that are no floating point numbers within the bounds of the attack's threat model, and
            labels that are no class numbers; with `jit_compile=True` neither is seen.
        """
        return self._in_one_line(super().fit, *args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`, under `validation_attack` if there is one, with the errors of `fit`."""
        return self._in_one_line(super().evaluate, *args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        """As `keras.Model.train_on_batch`, with the errors of `fit`."""
        return self._in_one_line(super().train_on_batch, *args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        """As `keras.Model.test_on_batch`, with the errors of `fit`."""
        return self._in_one_line(super().test_on_batch, *args, **kwargs)

    @staticmethod
    def _in_one_line(function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            raise as_value_error(error) from None

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Saves the classifier, as `keras.Model.save` does: what callbacks such as ModelCheckpoint keep.

        `save_weights`, and so ModelCheckpoint(save_weights_only=True), keeps those of the optimizer as well, which
        BackupAndRestore needs: a trainer of such a classifier reads them, and the classifier by itself does not.
        """
        self.classifier.save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def call(self, x, training=False):
        """Logits [B, K] of pixels [B, H, W, C]; of a pair in training, those of the attacked images."""
        x = self.attacked(x)
        if not training:
            return inference(self.classifier)(x)
        return self.twin.training_logits(x, seeds.fold_in(self._step_seed() if self.compiled else self.seed, DROPOUT))

    @staticmethod
    def attacked(x):
        """The attacked images of a training batch, which is a pair of them and the natural ones; others as they are."""
        return x[0] if isinstance(x, tuple | list) else x

    def perturb(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The batch that this step trains on: the attack's result with this step's epsilon and noise."""
        if self.attack is None:
            return x
        seed, attack = self._step_seed(), self.attack
        if self.epsilon_warmup_steps:
            step = tf.cast(self.optimizer.iterations.value, tf.int32)
            share = tf.minimum(1.0, tf.cast(step + 1, tf.float32) / self.epsilon_warmup_steps)
            attack = scaled(attack, tf.cast(share, x.dtype))
        if self.attack_batch_norm == "batch":
            return attack(in_training(self.classifier), x, y, seed=seed)
        return attack(self.twin.logits_fn(), x, y, seed=seed)

    def _step_seed(self):
        """Of this step's noise on this replica."""
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        return seeds.fold_in(seeds.fold_in(self.seed, tf.cast(self.optimizer.iterations.value, tf.int32)), replica)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Keras's loss, in training mixed with that of the natural images, and the weight decay, of which every replica
        has its share."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training and self.clean_weight:
            natural = self((x[1], x[1]), training=True)
            natural_loss = super().compute_loss(x, y, natural, sample_weight, training)
            loss = self.clean_weight * natural_loss + (1 - self.clean_weight) * loss
        if not self.weight_decay:
            return loss
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        squares = [tf.nn.l2_loss(kernel.value) for kernel in decaying_kernels(self.classifier)]
        return loss + tf.cast(self.weight_decay / replicas * tf.add_n(squares), loss.dtype) if squares else loss

    def train_step(self, data):
        """One update on the adversarial batch made of `data`: pixels, labels and, if any, sample weights.

        Raises:
          ValueError: see `inputs.unpacked`.
        """
        x, y, sample_weight = self._checked(data)
        if self.natural_accuracy_every:
            self._measure_natural_accuracy(x, y)
        logs = super().train_step(((self.perturb(x, y), x), y, sample_weight))
        replicas.average_over_replicas(self.classifier.non_trainable_variables)
        return logs

    def test_step(self, data):
        """Loss and metrics of a batch, as in `train_step`, under `validation_attack` if there is one."""
        x, y, sample_weight = self._checked(data)
        if self.validation_attack is not None:
            logits_fn = self.twin.logits_fn()
            # A function that no attack tells of its steps, and so has plain gradients.
            x = self.validation_attack(lambda x: logits_fn(x), x, y, seed=seeds.fold_in(self.seed, VALIDATION))
        logs = super().test_step((x, y, sample_weight))
        # They are measured in training only.
        return {name: value for name, value in logs.items() if name not in self.training_metrics}

    def _checked(self, data):
        x, y, sample_weight = inputs.unpacked(data)
        outputs = getattr(self.classifier, "outputs", None)
        y = inputs.checked_labels(y, outputs[0].shape[-1] if outputs else None)
        # Images that are not attacked would pass unseen.
        attack = self.attack or self.validation_attack
        if attack is not None:
            require_pixels(x, attack.threat.bounds)
        return x, y, sample_weight

    def _measure_natural_accuracy(self, x, y):
        def measure():
            correct = tf.argmax(self.twin.logits_fn()(x), axis=-1) == tf.cast(y, tf.int64)
            return tf.reduce_mean(tf.cast(correct, tf.float32))

        due = tf.equal(self.optimizer.iterations.value % self.natural_accuracy_every, 0)
        # The metric is updated in every step, with weight 0 where nothing was measured: variables of a distribution
        # strategy cannot be assigned in a branch.
        value = tf.cond(due, measure, lambda: tf.constant(0.0))
        self.natural_accuracy.update_state(value, sample_weight=tf.cast(due, tf.float32))


def decaying_kernels(classifier: keras.Model) -> list[keras.Variable]:
    """The trainable kernels of convolutions and dense layers, on which alone weight decay acts: of the challenges'
    networks, what the original calls DW."""
    return [variable for variable in classifier.trainable_variables if variable.name.endswith("kernel")]


class _MeanOrNaN(keras.metrics.Mean):
    """A mean that is NaN, and not 0, while nothing has been measured."""

    def result(self):
        return self.total / self.count
