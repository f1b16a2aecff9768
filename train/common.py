"""The flags of all trainings that no module beside this one has, and what flags stand for.

Keys of the challenges' config.json are flags under their original names; eval/challenge_config.py has the few that are
called otherwise.
"""

import functools
import math
from typing import ClassVar

import keras
import tensorflow as tf
from absl import flags, logging

from eval import attack_flags, attack_warnings, common, fraction_flag
from tfrobust.attacks import PGD
from tfrobust.models import mnist
from tfrobust.threat_models import ThreatModel
from tfrobust.trainers import AdversarialTrainer
from train import augmentation_flags, optimizer_flags


class _Length(flags.Flag):
    """A flag that takes the place of its rival, whichever of both comes last on the command line."""

    rivals: ClassVar = {"max_num_training_steps": "epochs", "epochs": "max_num_training_steps"}

    def parse(self, argument):
        super().parse(argument)
        flags.FLAGS[self.rivals[self.name]].unparse()


MAX_STEPS = flags.DEFINE_flag(
    _Length(
        flags.IntegerParser(lower_bound=1),
        flags.ArgumentSerializer(),
        "max_num_training_steps",
        100_000,
        "Updates of the weights.",
    )
)
EPOCHS = flags.DEFINE_flag(
    _Length(
        flags.FloatParser(lower_bound=0.0),
        flags.ArgumentSerializer(),
        "epochs",
        None,
        "Passes over the training set, in whole batches, in place of --max_num_training_steps.",
    )
)
OUTPUT_STEPS = flags.DEFINE_integer(
    "num_output_steps", 100, "Steps from one line of progress to the next.", lower_bound=1
)
SUMMARY_STEPS = flags.DEFINE_integer(
    "num_summary_steps", 100, "Steps between TensorBoard scalars, and between rows of training.csv.", lower_bound=1
)
CHECKPOINT_STEPS = flags.DEFINE_integer("num_checkpoint_steps", 300, "Steps between checkpoints.", lower_bound=1)

ADVERSARIAL = flags.DEFINE_bool("adversarial", True, "Train on adversarial examples; --noadversarial trains naturally.")
CLEAN_WEIGHT = flags.DEFINE_float(
    "clean_weight", 0.0, "Weight of natural images in the loss, beside adversarial ones: alpha.", 0.0, 1.0
)
STEP_DECAY = flags.DEFINE_float(
    "step_decay", 1.0, "What the length of each attack step is multiplied by for the next one.", 0.0, 1.0
)
RELU_WINDOW_SHARE = flags.DEFINE_float(
    "relu_window_share",
    0.0,
    "Part of the training images whose attack looks, at each step, as far beyond the thresholds of the first ReLU as "
    "the step is long; linf only.",
    0.0,
    1.0,
)
TRAINING_EPSILON = fraction_flag.define_fraction(
    "training_epsilon", None, "Epsilon of the attack that is trained against; default: --epsilon, which is evaluated."
)
EPSILON_WARMUP = flags.DEFINE_float(
    "epsilon_warmup", 0.0, "Fraction of the training over which epsilon and step size grow from 0.", 0.0, 1.0
)

HELD_OUT = flags.DEFINE_integer("held_out", 0, "Leave out the first so many training examples.", lower_bound=0)
DROP_TAIL = flags.DEFINE_bool(
    "drop_tail", False, "Leave out of every epoch what does not fill a batch, as the original does for CIFAR10."
)
ARCHITECTURE = flags.DEFINE_string(
    "architecture",
    None,
    "The network: challenge, thresholds, tramer_a, tramer_b, tramer_c, tramer_d, capacity, mlp, mlp_bn or lenet for "
    "train.mnist; wide, narrow, small, capacity, naive, convnet or nin for train.cifar10; resnet18, alexnet or small "
    "for train.imagenet. Default: the first of each: challenge, wide, resnet18.",
)
CAPACITY = flags.DEFINE_integer("capacity", 1, "Scale of --architecture=capacity: 1, 2, 4, ...", lower_bound=1)
INPUT_SCALE = flags.DEFINE_float(
    "input_scale",
    255.0,
    "What pixels of the networks of Deep Defense (mlp, mlp_bn, lenet, convnet, nin) go up to inside; 255 is the "
    "original's, and 1 easier to train from scratch.",
    lower_bound=1e-6,
)
INITIALIZER = flags.DEFINE_enum(
    "initializer",
    "challenge",
    mnist.INITIALIZERS,
    "Where the weights of --architecture=challenge start, see tfrobust/models/mnist.py; challenge is the original's. "
    "Other networks take no notice of it.",
)
DROPOUT = flags.DEFINE_float(
    "dropout",
    0.0,
    "Which part of the dense layer's outputs training drops, with --architecture=challenge; below 1.",
    lower_bound=0.0,
)
ATTACK_BATCH_NORM = flags.DEFINE_enum(
    "attack_batch_norm",
    "inference",
    ["inference", "batch"],
    "Statistics of batch normalisation while training batches are attacked; batch is what the original does.",
)
DISTRIBUTION = flags.DEFINE_enum(
    "distribution",
    "auto",
    ["auto", "none", "mirrored"],
    "mirrored uses all GPUs, or all logical CPUs; auto: several GPUs.",
)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Go on from this checkpoint of --model_dir instead of the newest.")
COMPARE_UNDEFENDED = flags.DEFINE_bool(
    "compare_undefended",
    False,
    "Also train a natural twin on the same batches, in MODEL_DIR/undefended, and show both side by side.",
)

flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(attack_flags)
flags.adopt_module_key_flags(optimizer_flags)
flags.adopt_module_key_flags(augmentation_flags)


def training_attack(threat: ThreatModel) -> PGD | None:
    """The attack that is trained against, or None for --noadversarial; `threat` is what is evaluated."""
    if not ADVERSARIAL.value:
        return None
    if TRAINING_EPSILON.value is not None:
        try:
            threat = ThreatModel(threat.norm, TRAINING_EPSILON.value)
        except ValueError as error:
            raise ValueError(f"training_{error}") from error  # which begins with "epsilon"
        attack_warnings.warn_of_absurd_epsilon("training_epsilon", threat)
    return attack_flags.pgd(threat, step_decay=STEP_DECAY.value)


def compiled_trainer(classifier: keras.Model, attack: PGD | None) -> AdversarialTrainer:
    """A trainer of `classifier` with the optimizer and loss of the flags; call it in the strategy's scope."""
    return compiled(AdversarialTrainer(classifier, attack, **trainer_options(attack)))


def trainer_options(attack: PGD | None) -> dict:
    """What every trainer takes from the flags."""
    return {
        "seed": common.SEED.value,
        "epsilon_warmup_steps": round(EPSILON_WARMUP.value * MAX_STEPS.value) if attack else 0,
        # Seldom, for it costs a pass, but in every whole window that is shown.
        "natural_accuracy_every": min(10, OUTPUT_STEPS.value, SUMMARY_STEPS.value),
        "weight_decay": optimizer_flags.WEIGHT_DECAY.value,
        "clean_weight": CLEAN_WEIGHT.value,
        "attack_batch_norm": ATTACK_BATCH_NORM.value,
        "precision": common.PRECISION.value,
        "relu_window_share": RELU_WINDOW_SHARE.value,
    }


def compiled(trainer: AdversarialTrainer) -> AdversarialTrainer:
    """`trainer` with the optimizer and the loss of the flags."""
    trainer.compile(
        optimizer=optimizer_flags.optimizer(MAX_STEPS.value),
        loss=optimizer_flags.loss,
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="adversarial_accuracy"),
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="xent"),
        ],
    )
    return trainer


def resolve_epochs(examples: int) -> None:
    """Makes --max_num_training_steps of --epochs, if they are given, for so many training examples.

    Raises:
      ValueError: for epochs that are not finite and above 0, or make more steps than can be counted.
    """
    epochs = EPOCHS.value
    if epochs is None:
        return
    if not 0 < epochs < math.inf:
        raise ValueError(f"epochs must be a number above 0, got {epochs}")
    steps = max(1, round(epochs * steps_per_epoch(examples)))
    if steps >= 2**31:
        raise ValueError(f"epochs must make fewer than 2^31 steps, got {epochs}, which make {steps}")
    # From here on the steps count: in the flags that are recorded, too.
    flags.FLAGS.max_num_training_steps, flags.FLAGS.epochs = steps, None


def steps_per_epoch(examples: int) -> int:
    """The whole number of batches that is nearest to a pass over so many training examples, or all with --drop_tail."""
    batches = examples / optimizer_flags.BATCH_SIZE.value
    return max(1, math.floor(batches) if DROP_TAIL.value else round(batches))


def strategy() -> tf.distribute.Strategy:
    """The distribution strategy of the flags."""
    gpus = tf.config.list_logical_devices("GPU")
    batch_size = optimizer_flags.BATCH_SIZE.value
    divisible = len(gpus) > 1 and batch_size % len(gpus) == 0
    if DISTRIBUTION.value == "auto" and len(gpus) > 1 and not divisible:
        logging.warning(
            "using 1 of %d GPUs: training_batch_size %d is no multiple", len(gpus), optimizer_flags.BATCH_SIZE.value
        )
    if not (DISTRIBUTION.value == "mirrored" or (DISTRIBUTION.value == "auto" and divisible)):
        return tf.distribute.get_strategy()
    devices = gpus or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        logging.warning("mirrored on a single device, %s: there is no other one", devices[0].name)
    if batch_size % len(devices):
        raise ValueError(f"training_batch_size must be a multiple of the {len(devices)} devices, got {batch_size}")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices):
    # One for all runs of a program: another one would number its exchanges as the first did, and TensorFlow takes them
    # for the same.
    return tf.distribute.MirroredStrategy(devices)
