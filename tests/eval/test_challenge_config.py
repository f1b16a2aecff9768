"""--config: the challenges' files become flags, explicit flags win, and what is not understood is refused."""

import json
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from eval import challenge_config, common, evaluate, robust_accuracy  # noqa: F401  (their flags)
from train import common as train_common  # noqa: F401

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The released files, with their repeated key.
MNIST = """{
  "_comment": "===== MODEL CONFIGURATION =====", "model_dir": "models/secret",
  "_comment": "===== TRAINING CONFIGURATION =====", "random_seed": 4557077, "max_num_training_steps": 100000,
  "num_output_steps": 100, "num_summary_steps": 100, "num_checkpoint_steps": 300, "training_batch_size": 50,
  "_comment": "===== EVAL CONFIGURATION =====", "num_eval_examples": 10000, "eval_batch_size": 200,
  "eval_on_cpu": true,
  "_comment": "=====ADVERSARIAL EXAMPLES CONFIGURATION=====", "epsilon": 0.3, "k": 40, "a": 0.01,
  "random_start": true, "loss_func": "xent", "store_adv_path": "attack.npy"
}"""
CIFAR10 = """{
  "_comment": "===== MODEL CONFIGURATION =====", "model_dir": "models/a_very_robust_model",
  "_comment": "===== DATASET CONFIGURATION =====", "data_path": "cifar10_data",
  "_comment": "===== TRAINING CONFIGURATION =====", "tf_random_seed": 451760341, "np_random_seed": 216105420,
  "max_num_training_steps": 80000, "num_output_steps": 100, "num_summary_steps": 100, "num_checkpoint_steps": 1000,
  "training_batch_size": 128, "step_size_schedule": [[0, 0.1], [40000, 0.01], [60000, 0.001]],
  "weight_decay": 0.0002, "momentum": 0.9,
  "_comment": "===== EVAL CONFIGURATION =====", "num_eval_examples": 10000, "eval_batch_size": 100,
  "eval_on_cpu": false,
  "_comment": "=====ADVERSARIAL EXAMPLES CONFIGURATION=====", "epsilon": 8.0, "num_steps": 10, "step_size": 2.0,
  "random_start": true, "loss_func": "xent", "store_adv_path": "attack.npy"
}"""


@pytest.fixture
def values():
    """Parses a command line; all flags are afterwards as they were."""
    saved = flags.FLAGS
    before = {name: (saved[name].value, saved[name].present) for name in saved}

    def parse(*arguments):
        flags.FLAGS(challenge_config.expand(["binary", *arguments]))
        return flags.FLAGS

    yield parse
    for name, (value, present) in before.items():
        saved[name].value, saved[name].present = value, present


def written(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return f"--config={path}"


def test_mnist(tmp_path, values):
    found = values(written(tmp_path, MNIST))
    assert (found.dataset, found.epsilon, found.k, found.a) == ("mnist", 0.3, 40, 0.01)
    assert found.model_dir == "models/secret" and found.store_adv_path == "attack.npy"
    assert found.eval_on_cpu is True and found.random_start is True and found.loss_func == "xent"
    assert (found.random_seed, found.training_batch_size, found.eval_batch_size) == (4557077, 50, 200)


def test_cifar10_counts_pixels_to_255(tmp_path, values, capsys):
    found = values(written(tmp_path, CIFAR10))
    assert (found.dataset, found.epsilon, found.k, found.a) == ("cifar10", 8 / 255, 10, 2 / 255)
    assert (found.random_seed, found.weight_decay, found.momentum) == (451760341, 0.0002, 0.9)
    assert found.step_size_schedule == [(0, 0.1), (40000, 0.01), (60000, 0.001)]
    assert "data_path and np_random_seed are not used here" in capsys.readouterr().err


@pytest.mark.parametrize("before", [True, False])
def test_explicit_flags_win(tmp_path, values, before):
    explicit, config = ["--steps=7", "--epsilon=0.1", "--norandom_start"], [written(tmp_path, MNIST)]
    found = values(*explicit, *config) if before else values(*config, *explicit)
    assert (found.k, found.epsilon, found.random_start, found.a) == (7, 0.1, False, 0.01)


def test_the_path_may_be_an_argument_of_its_own(tmp_path, values):
    assert values("--config", written(tmp_path, {"k": 3}).removeprefix("--config=")).k == 3


def test_a_flagfile_may_name_it(tmp_path, values):
    lines = [written(tmp_path, MNIST), "--epsilon=0.1", "# a comment"]
    (tmp_path / "mine.flags").write_text("\n".join(lines))
    found = values(f"--flagfile={tmp_path / 'mine.flags'}", "--a=0.02")
    assert (found.k, found.epsilon, found.a) == (40, 0.1, 0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"k": 3, "epsilom": 0.3}, "unknown key 'epsilom': did you mean 'epsilon'?"),
        ({"k": 3, "num_steps": 3}, r"mixes keys of MNIST \(k\) and CIFAR10 \(num_steps\)"),
        ([1], "config must be a JSON object .* got list"),
        ("{", "config must be a JSON file"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        challenge_config.expand(["binary", written(tmp_path, content)])


def test_a_file_that_is_not_there():
    with pytest.raises(OSError, match=r"nowhere\.json"):
        challenge_config.expand(["binary", "--config=nowhere.json"])


def test_a_binary_with_the_files_as_they_are(tmp_path, digits_model, capsys):
    # What the original config has no key for is given besides.
    more = [f"--model={digits_model}", "--dataset=digits", "--num_eval_examples=10", "--nored_flags", "--attacks=fgsm"]
    for config, epsilon in ((MNIST, "0.3"), (CIFAR10, "0.0313725")):
        with flagsaver.flagsaver():
            arguments = challenge_config.expand(["binary", written(tmp_path, config), *more])
            common.guarded(robust_accuracy.main, flags.FLAGS(arguments))
        assert f"10 test examples of digits, linf epsilon {epsilon}" in capsys.readouterr().out
    # As a program.
    command = [sys.executable, "-m", "eval.robust_accuracy", written(tmp_path, {"k": 1, "epsilom": 0.3}), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: config ") and "did you mean 'epsilon'?" in done.stderr
