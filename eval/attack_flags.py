"""The flags of the challenges' attack, which is trained against and evaluated with, under their original names."""

from absl import flags

from eval import attack_warnings, common, data_flags, fraction_flag
from tfrobust import losses
from tfrobust.attacks import PGD
from tfrobust.threat_models import ThreatModel

STEPS = flags.DEFINE_integer(
    "k", None, "Steps of the PGD attack; default: 40; 10 for cifar10 and imagefolder.", lower_bound=1
)
flags.DEFINE_alias("steps", "k")
flags.DEFINE_alias("num_steps", "k")
STEP_SIZE = fraction_flag.define_fraction(
    "a", None, "Length of an attack step in pixel units; default: 0.01; 2/255 for cifar10, 1/255 for imagefolder."
)
flags.DEFINE_alias("step_size", "a")
RANDOM_START = flags.DEFINE_bool("random_start", True, "Start the attack at a random point of the ball.")
LOSS_FUNC = flags.DEFINE_enum(
    "loss_func", "xent", ["xent", "cw"], "What the attack ascends: cross-entropy, or the margin up to kappa 50."
)

ALIASES = ("steps", "num_steps", "step_size")


def values_of(attack: PGD) -> dict:
    """The values of these flags with which `pgd` makes the attack within its threat model."""
    return {
        "k": attack.steps,
        "a": attack.step_size,
        "random_start": attack.random_start,
        "loss_func": "xent" if attack.loss is losses.cross_entropy else "cw",
    }


def pgd(threat: ThreatModel, **arguments) -> PGD:
    """The attack of the flags within `threat`; `arguments` are more of PGD's own."""
    default = common.CHALLENGE_ATTACKS[data_flags.DATASET.value]
    attack = PGD(
        threat,
        default.steps if STEPS.value is None else STEPS.value,
        default.step_size if STEP_SIZE.value is None else STEP_SIZE.value,
        loss=losses.cross_entropy if LOSS_FUNC.value == "xent" else losses.CWMargin(kappa=50),
        random_start=RANDOM_START.value,
        **arguments,
    )
    attack_warnings.warn_of_short_steps(attack)
    return attack
