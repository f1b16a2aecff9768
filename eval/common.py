"""What the binaries share: flags on data and threat model, errors for people, tables."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import sys
import tempfile
import traceback

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from tfrobust import checkpoints, datasets, evaluation, export, loading, reports, suites
from tfrobust.attacks import catalogue
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


class _FractionParser(flags.ArgumentParser):
    """Numbers, also as fractions: 0.3 or 8/255."""

    syntactic_help = "a number or a fraction such as 8/255"

    def parse(self, argument):
        if isinstance(argument, (int, float)):
            return float(argument)
        try:
            numerator, _, denominator = argument.partition("/")
            return float(numerator) / float(denominator or 1)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"must be {self.syntactic_help}, got {argument!r}") from None

    def flag_type(self):
        return "fraction"


class _FractionSerializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return repr(value)


def define_fraction(name: str, default: float | None, description: str, **arguments) -> flags.FlagHolder:
    """A flag for pixel distances, which are often written as n/255."""
    return flags.DEFINE(_FractionParser(), name, default, description, serializer=_FractionSerializer(), **arguments)


DATASET = flags.DEFINE_enum(
    "dataset", "mnist", sorted(datasets.SPECS), "Data; digits comes with scikit-learn and needs no download."
)
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of TensorFlow Datasets; default: TFDS_DATA_DIR, or TFDS's own."
)
NORM = flags.DEFINE_enum("norm", "linf", list(NORMS), "Norm of the adversary's ball.")
EPSILON = define_fraction("epsilon", 0.3, "Radius of the adversary's ball in pixel units, pixels being in [0, 1].")
PRECISION = flags.DEFINE_enum(
    "precision",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Of the attacks' gradients. bfloat16 keeps the first and last layer in float32; auto takes it on a CPU that has "
    "instructions for it. Predictions are always float32.",
)
SEED = flags.DEFINE_integer("random_seed", 4557077, "Seed of everything random.", 0, 2**31 - 1)
flags.DEFINE_alias("seed", "random_seed")
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
NUM_EVAL_EXAMPLES = flags.DEFINE_integer(
    "num_eval_examples",
    None,
    "Evaluate on the first so many test examples in official order; default: all.",
    lower_bound=1,
)
flags.DEFINE_alias("num_examples", "num_eval_examples")
EVAL_BATCH_SIZE = flags.DEFINE_integer(
    "eval_batch_size", 100, "Examples attacked at a time; no result depends on it beyond rounding.", lower_bound=1
)


def run(main) -> None:
    """`app.run` for a binary: parses its flags, then `guarded`."""
    app.run(lambda argv: guarded(main, argv))


def guarded(main, argv) -> None:
    """Calls `main()`; errors that speak to the user become one line and exit code 1, Ctrl-C 130 and SIGTERM 143."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: flags are written --name=value")
    signal.signal(signal.SIGTERM, _raise_system_exit)
    if not flags.FLAGS["verbosity"].present:
        # TensorFlow and Keras tell of every file that they write.
        logging.set_verbosity(logging.WARNING)
        tf.get_logger().setLevel("WARNING")
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except USER_ERRORS as error:
        if logging.get_verbosity() >= logging.DEBUG:
            traceback.print_exc()
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def threat_model() -> ThreatModel:
    """The threat model of --norm and --epsilon; warns of an epsilon that makes images unrecognisable."""
    threat = ThreatModel(NORM.value, EPSILON.value)
    if threat.norm == "linf" and threat.epsilon > 0.5:
        logging.warning("epsilon %g can turn every image into plain grey: nothing can be robust to it", threat.epsilon)
    return threat


def load_test_set() -> datasets.Arrays:
    """The first --num_eval_examples of the test set of --dataset, in official order."""
    return datasets.load(DATASET.value, "test", data_dir=DATA_DIR.value, num_examples=NUM_EVAL_EXAMPLES.value)


def attacks(threat: ThreatModel) -> tuple[suites.Suite, bool]:
    """The attacks of --attacks or --suite, and whether each attacks only what those before left standing.

    Raises:
      ValueError: for attacks that do not exist, or for a suite of minimum-norm attacks.
    """
    if ATTACKS.value is not None:
        return catalogue.parse(ATTACKS.value, threat), False
    if SUITE.value == MIN_NORM:
        raise ValueError(f"suite must be one of {', '.join(suites.SUITES)} here, got {MIN_NORM!r}")
    return suites.SUITES[SUITE.value](threat), SUITE.value in suites.ONLY_STANDING


def evaluate(classifier, test: datasets.Arrays, threat: ThreatModel, **arguments) -> reports.Report:
    """`evaluation.evaluate` with the flags' attacks, seed, batch size and precision."""
    rows, only_standing = attacks(threat)
    return evaluation.evaluate(
        classifier,
        test.images,
        test.labels,
        rows,
        seed=SEED.value,
        batch_size=EVAL_BATCH_SIZE.value,
        precision=PRECISION.value,
        only_standing=only_standing,
        **arguments,
    )


@contextlib.contextmanager
def whole_file(path: str):
    """A binary file that takes the name `path` only when it is complete; its folder is made if need be."""
    target = pathlib.Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp makes files that only the owner may read.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def write_report(path: str, report: reports.Report, red_flags=(), **more: str) -> None:
    """The report as indented JSON, with red flags, the flags that made it and `more` of them."""
    values = {flag.name: flag.value for flag in flags.FLAGS.flags_by_module_dict()["eval.common"]}
    with whole_file(path) as file:
        signs = [dataclasses.asdict(sign) for sign in red_flags]
        content = {**report.as_json(), "red_flags": signs, "flags": {**more, **values}}
        file.write((json.dumps(content, indent=2) + "\n").encode())


def check_output_path(path: str) -> None:
    """Raises OSError unless a file can be written at `path`: asked before the work is done."""
    target = pathlib.Path(path).absolute()
    parent = next(folder for folder in target.parents if folder.exists())
    if target.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OSError(f"{path} cannot be written: it is a folder, or its folder is not writable")


def write_adversarial_examples(path: str, report: reports.Report, labels: np.ndarray) -> None:
    """The report's x_adv: with labels and predictions as .npz, alone and flattened, as the challenges want it, as .npy.

    Raises:
      ValueError: for another suffix.
    """
    check_adversarial_path(path)
    with whole_file(path) as file:
        if path.endswith(".npy"):
            np.save(file, report.x_adv.reshape(len(report.x_adv), -1))
        else:
            np.savez_compressed(file, x_adv=report.x_adv, labels=labels, predictions=report.predictions)


def check_adversarial_path(path: str) -> None:
    """Raises ValueError unless `path` ends in .npz or .npy, and OSError unless it can be written."""
    if not path.endswith((".npz", ".npy")):
        raise ValueError(f"adversarial examples are saved as .npz or .npy, got {path!r}")
    check_output_path(path)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _raise_system_exit(*_):
    sys.exit(143)
