"""The flags of the outer minimisation: loss, optimizer and learning rate."""

import json

import keras
from absl import flags

from tfrobust.optimizers import FusedAdam, Momentum
from tfrobust.schedules import WarmupLinearDecay


class _ScheduleParser(flags.ArgumentParser):
    """[[0, 0.1], [40000, 0.01], ...] as tuples (step, rate), the steps rising from 0."""

    syntactic_help = "pairs [step, learning rate], the first step being 0: [[0, 0.1], [40000, 0.01]]"

    def parse(self, argument):
        try:
            pairs = json.loads(argument) if isinstance(argument, str) else argument
            pairs = [(int(step), float(rate)) for step, rate in pairs]
        except (ValueError, TypeError):
            pairs = []
        steps = [step for step, _ in pairs]
        if not (steps[:1] == [0] and sorted(set(steps)) == steps and all(rate > 0 for _, rate in pairs)):
            raise ValueError(f"must be {self.syntactic_help}, got {argument!r}")
        return pairs

    def flag_type(self):
        return "schedule"


class _ScheduleSerializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return json.dumps(value)


BATCH_SIZE = flags.DEFINE_integer("training_batch_size", 50, "Examples in an update, over all devices.", lower_bound=1)
OPTIMIZER = flags.DEFINE_enum(
    "optimizer", "adam", ["adam", "momentum"], "momentum is gradient descent with --momentum, as TensorFlow 1 has it."
)
MOMENTUM = flags.DEFINE_float("momentum", 0.9, "Of --optimizer=momentum.", 0.0, 0.9999)
WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay", 0.0, "c of the penalty c/2 * (sum of squares of all kernels).", lower_bound=0.0
)
STEP_SIZE_SCHEDULE = flags.DEFINE(
    _ScheduleParser(),
    "step_size_schedule",
    None,
    "Learning rates and the steps from which they hold, instead of --learning_rate: [[0, 0.1], [40000, 0.01]].",
    serializer=_ScheduleSerializer(),
)
LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-4, "The highest learning rate.", lower_bound=0.0)
RATE_WARMUP = flags.DEFINE_float(
    "learning_rate_warmup", 0.0, "Fraction of the training over which the learning rate grows from 0.", 0.0, 1.0
)
RATE_DECAY = flags.DEFINE_float(
    "learning_rate_decay",
    0.0,
    "Fraction of the training, its last part, over which the learning rate falls to 0.",
    0.0,
    1.0,
)
RATE_HALVING = flags.DEFINE_float(
    "learning_rate_halving", 0.0, "Fraction of the training, its last part, at half of --learning_rate.", 0.0, 1.0
)
ADAM_EPSILON = flags.DEFINE_float(
    "adam_epsilon", 1e-8, "Adam's epsilon; 1e-8 is TensorFlow 1's, as in the original.", lower_bound=0.0
)
LOSS_REDUCTION = flags.DEFINE_enum(
    "loss_reduction", "sum", ["sum", "mean"], "Of the cross-entropies in a batch; the original's is the sum."
)
WEIGHT_AVERAGE = flags.DEFINE_float(
    "weight_average",
    0.0,
    "Decay of the moving average of the weights, which is what gets saved; 0 for none.",
    0.0,
    0.99999,
)


def loss(y, logits):
    """Cross-entropy of each example, [B]; Keras takes the mean, so that the sum is a multiple of it on any number of
    devices."""
    scale = BATCH_SIZE.value if LOSS_REDUCTION.value == "sum" else 1
    return scale * keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)


def optimizer(total: int) -> keras.optimizers.Optimizer:
    """The optimizer of the flags, whose schedule is over after `total` updates."""
    rate = LEARNING_RATE.value
    smooth = RATE_WARMUP.value or RATE_DECAY.value
    if bool(STEP_SIZE_SCHEDULE.value) + bool(smooth) + bool(RATE_HALVING.value) > 1:
        raise ValueError(
            "step_size_schedule, learning_rate_halving, and learning_rate_warmup or learning_rate_decay exclude each "
            "other"
        )
    if STEP_SIZE_SCHEDULE.value:
        steps, rates = zip(*STEP_SIZE_SCHEDULE.value, strict=True)
        # A rate holds from the update after its step on, as in the original.
        rate = rates[0]
        if steps[1:]:
            rate = keras.optimizers.schedules.PiecewiseConstantDecay(list(steps[1:]), list(rates))
    elif RATE_HALVING.value:
        # Keras's boundary is the last update of the rate before it, counted from 0.
        boundary = total - round(RATE_HALVING.value * total) - 1
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([boundary], [rate, rate / 2])
    elif smooth:
        if not rate:
            raise ValueError("learning_rate must be above 0 with learning_rate_warmup or learning_rate_decay, got 0")
        if RATE_WARMUP.value + RATE_DECAY.value > 1:
            raise ValueError(
                "learning_rate_warmup and learning_rate_decay must sum to at most 1, got "
                f"{RATE_WARMUP.value} and {RATE_DECAY.value}"
            )
        warmup, decay = round(RATE_WARMUP.value * total), round(RATE_DECAY.value * total)
        rate = WarmupLinearDecay(rate, total, warmup_steps=warmup, decay_from=total - decay)
    average = {"use_ema": True, "ema_momentum": WEIGHT_AVERAGE.value} if WEIGHT_AVERAGE.value else {}
    if OPTIMIZER.value == "adam":
        return FusedAdam(rate, epsilon=ADAM_EPSILON.value, **average)
    return Momentum(rate, MOMENTUM.value, **average)
