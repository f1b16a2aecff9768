"""What the binaries share: flags on data, model and threat model, and errors for people."""

import fnmatch
import math
import re
import signal
import sys
import traceback
from typing import NamedTuple

import tensorflow as tf
from absl import app, flags, logging

from eval import attack_warnings, challenge_config, data_flags, fraction_flag, sources
from tfrobust import checkpoints, datasets, evaluation, export, image_folders, loading, reports, suites
from tfrobust.attacks import catalogue
from tfrobust.precision import resolve
from tfrobust.threat_models import NORMS, ThreatModel

# The errors that speak to the user; any other is a defect of ours and keeps its traceback.
USER_ERRORS = (
    ValueError,
    OSError,
    checkpoints.CheckpointError,
    datasets.DatasetOrderError,
    datasets.DatasetUnavailableError,
    export.ExportError,
    evaluation.InvalidAdversarialExampleError,
    loading.ModelLoadError,
)


MODEL_DIR = flags.DEFINE_string("model_dir", None, "Where training writes everything and resumes from.")
MODEL = flags.DEFINE_string(
    "model",
    None,
    "What is evaluated: a .keras file, a SavedModel, a checkpoint of the original challenges, or a folder with one of "
    "them such as a --model_dir of training. Default: --model_dir.",
)
NORM = flags.DEFINE_enum("norm", "linf", list(NORMS), "Norm of the adversary's ball.")
EPSILON = fraction_flag.define_fraction(
    "epsilon",
    None,
    "Radius of the adversary's ball in pixel units, pixels being in [0, 1]; default: 0.3, 8/255 for cifar10, 4/255 for "
    "imagefolder.",
)
PRECISION = flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Of the attacks' gradients. bfloat16 keeps the first and last layer in float32; auto takes it on a CPU that has "
    "instructions for it, and to evaluate a model under attacks of a given epsilon only where it leads them as float32 "
    "does. Predictions are always float32.",
)
SEED = flags.DEFINE_integer("random_seed", 4557077, "Seed of everything random.", 0, 2**31 - 1)
flags.DEFINE_alias("seed", "random_seed")


class ChallengeAttack(NamedTuple):
    """What --epsilon, --k and --a are where they are not given."""

    epsilon: float
    steps: int
    step_size: float


_MNIST_ATTACK = ChallengeAttack(0.3, 40, 0.01)
CHALLENGE_ATTACKS = {
    "mnist": _MNIST_ATTACK,
    "digits": _MNIST_ATTACK,
    "cifar10": ChallengeAttack(8 / 255, 10, 2 / 255),
    # No challenge: what is usual for ImageNet.
    image_folders.NAME: ChallengeAttack(4 / 255, 10, 1 / 255),
}
MIN_NORM = "min_norm"
SUITE = flags.DEFINE_enum(
    "suite",
    "quick",
    sorted([*suites.SUITES, MIN_NORM]),
    f"The table of attacks. {MIN_NORM}, the smallest changes that alter the class, is for eval.robust_accuracy only.",
)
ATTACKS = flags.DEFINE_string(
    "attacks",
    None,
    "Attacks by name instead of --suite, with their parameters: fgsm,pgd:steps=100:step_size=0.01,apgd_t. Names: "
    f"{', '.join(catalogue.CATALOGUE)}.",
)
ROWS = flags.DEFINE_multi_string(
    "rows",
    None,
    "Only the rows of --suite whose names match, * standing for anything: --rows='PGD *x1' --rows=FGSM; repeatable.",
)
flags.adopt_module_key_flags(challenge_config)
flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(sources)
EVAL_ON_CPU = flags.DEFINE_bool("eval_on_cpu", False, "Evaluate on the CPU.")
STORE_ADV_PATH = flags.DEFINE_string(
    "store_adv_path",
    None,
    "Adversarial test examples, .npy as in the challenge or .npz: eval.pgd_attack and training write, eval.run_attack "
    "reads them; for eval.robust_accuracy it is --save_adversarial.",
)
EVAL_BATCH_SIZE = flags.DEFINE_integer(
    "eval_batch_size", 100, "Examples attacked at a time; no result depends on it beyond rounding.", lower_bound=1
)


def run(main) -> None:
    """`app.run` for a binary: parses its flags and its --config, then `guarded`."""
    app.run(lambda argv: guarded(main, argv), flags_parser=parse)


def parse(argv: list[str]) -> list[str]:
    """What is left of a command line behind its flags; a wrong one ends the program with one line."""
    try:
        # `app.parse_flags_with_usage` would say more than a line.
        return flags.FLAGS(challenge_config.expand(argv))
    except (flags.Error, ValueError, OSError) as error:
        _exit_with(_as_given(str(error), argv))


def _as_given(message, argv):
    """An error that names the flag as it was given: absl says --k of what was --steps."""
    named = re.search(r"flag --(\w+)=(\S*):", message)
    if not named:
        return message
    given = [argument for argument in argv if re.fullmatch(rf"--?\w+={re.escape(named[2])}", argument)]
    return message.replace(f"flag --{named[1]}={named[2]}", f"flag {given[0]}") if len(given) == 1 else message


def guarded(main, argv) -> None:
    """Calls `main()`; errors that speak to the user become one line and exit code 1, Ctrl-C 130 and SIGTERM 143."""
    if len(argv) > 1:
        _exit_with(f"unexpected argument {argv[1]!r}: flags are written --name=value")
    _require_finite_flags()
    signal.signal(signal.SIGTERM, _raise_terminated)
    if not flags.FLAGS["verbosity"].present:
        # TensorFlow and Keras tell of every file that they write.
        logging.set_verbosity(logging.WARNING)
        tf.get_logger().setLevel("WARNING")
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except _Terminated:
        print("\nterminated", file=sys.stderr)
        raise
    except USER_ERRORS as error:
        if logging.get_verbosity() >= logging.DEBUG:
            traceback.print_exc()
        _exit_with(error)


def _require_finite_flags():
    """NaN lies within all bounds of a flag."""
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            _exit_with(f"{name} must be a finite number, got {value}")


def model_path() -> str:
    """--model, or else --model_dir.

    Raises:
      ValueError: if neither is given.
    """
    path = MODEL.value or MODEL_DIR.value
    if not path:
        raise ValueError("model must be given: --model=PATH, or --model_dir=FOLDER")
    return path


def threat_model() -> ThreatModel:
    """The threat model of --norm and --epsilon; warns of an epsilon that makes images unrecognisable."""
    epsilon = CHALLENGE_ATTACKS[data_flags.DATASET.value].epsilon if EPSILON.value is None else EPSILON.value
    threat = ThreatModel(NORM.value, epsilon)
    attack_warnings.warn_of_absurd_epsilon("epsilon", threat)
    return threat


class Table(NamedTuple):
    """The attacks of a table by their rows, and whether each attacks only what those before left standing."""

    attacks: suites.Suite
    only_standing: bool


def table(threat: ThreatModel) -> Table:
    """The table of --attacks or --suite.

    Raises:
      ValueError: for attacks that do not exist, a suite of minimum-norm attacks, sources that no row is for, or --rows
        that match none.
    """
    rows = _whole_table(threat)
    return rows._replace(attacks=matching_rows(rows.attacks))


def matching_rows(attacks: dict) -> dict:
    """Those of `attacks` that --rows names, all without it.

    Raises:
      ValueError: if there are none.
    """
    if not ROWS.value:
        return attacks
    matching = [name for name in attacks if any(fnmatch.fnmatchcase(name, pattern) for pattern in ROWS.value)]
    if not matching:
        raise ValueError(f"rows must match some of {', '.join(map(repr, attacks))}, got {ROWS.value}")
    return {name: attacks[name] for name in matching}


def single_attack(flag: flags.FlagHolder, threat: ThreatModel, default: str = "pgd"):
    """The one attack of a flag such as --attacks, as text and as an attack.

    Raises:
      ValueError: for several, and for one that does not exist.
    """
    found = catalogue.parse(default if flag.value is None else flag.value, threat)
    if len(found) != 1:
        raise ValueError(f"{flag.name} must be a single one, got {flag.value!r}")
    return next(iter(found.items()))


def _whole_table(threat):
    if ATTACKS.value is not None:
        return Table(catalogue.parse(ATTACKS.value, threat), False)
    if SUITE.value == MIN_NORM:
        raise ValueError(f"suite must be one of {', '.join(suites.SUITES)} here, got {MIN_NORM!r}")
    if SUITE.value in suites.WITH_SOURCES:
        return Table(suites.SUITES[SUITE.value](threat, sources.load(), precision=PRECISION.value), False)
    sources.refuse()
    return Table(suites.SUITES[SUITE.value](threat), SUITE.value in suites.ONLY_STANDING)


def evaluate(
    classifier, test: datasets.Arrays, rows: Table, *, warn: bool = True, precision: str | None = None, **arguments
) -> reports.Report:
    """`evaluation.evaluate` with the flags' seed, batch size, device and, unless another is given, precision; `warn` of
    steps that are short."""
    for attack in rows.attacks.values() if warn else ():
        attack_warnings.warn_of_short_steps(attack)
    with device():
        return evaluation.evaluate(
            classifier,
            test.images,
            test.labels,
            rows.attacks,
            seed=SEED.value,
            batch_size=EVAL_BATCH_SIZE.value,
            precision=precision or PRECISION.value,
            only_standing=rows.only_standing,
            **arguments,
        )


def attack_precision() -> str:
    """--precision as a study records it, whose rows must not come from machines of different kinds: "auto" is
    "float32" where it can be nothing else."""
    found = resolve(PRECISION.value)
    return found if found == "float32" else PRECISION.value


def device():
    """A context that obeys --eval_on_cpu."""
    return tf.device("/CPU:0" if EVAL_ON_CPU.value else None)


def _exit_with(error):
    # At exit TensorFlow would go on about a checkpoint that could not be read.
    tf.get_logger().setLevel("ERROR")
    # absl begins some of its own in capitals.
    print("error:", " ".join(str(error).removeprefix("ERROR:: ").split()), file=sys.stderr)
    sys.exit(1)


class _Terminated(SystemExit):
    """SIGTERM."""


def _raise_terminated(*_):
    raise _Terminated(143)
