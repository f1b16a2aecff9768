"""Peak memory of an evaluation against the steps and restarts of its attack.

    python -m tests.benchmarks.memory

Each number is that of a process of its own, which evaluates the challenge CNN with random weights on the digits' test
images. It should not grow: restarts are made one after the other, and steps are a loop that keeps nothing.
"""

import pathlib
import subprocess
import sys

import tensorflow as tf
from absl import app, flags

from tests.benchmarks import peers
from tfrobust import datasets
from tfrobust.attacks.pgd import PGD
from tfrobust.evaluation import evaluate
from tfrobust.models.mnist import challenge_cnn
from tfrobust.threat_models import ThreatModel

# Steps and restarts.
CASES = ((1, 1), (10, 1), (100, 1), (10, 2), (10, 20))


def peak_memory() -> int:
    """Bytes that this process has held at most, as Linux reports it; `ru_maxrss` would count its parent's too."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def main(_) -> None:
    """Measures every case, or is the process of one."""
    values = flags.FLAGS
    threads = peers.prepare(values.threads)
    if values.steps:
        test = datasets.load("digits", "test")
        attack = PGD(ThreatModel("linf", 0.3), values.steps, 0.01, restarts=values.restarts)
        evaluate(challenge_cnn(seed=0), test.images, test.labels, {"PGD": attack}, seed=0)
        print(f"{peak_memory() / 2**20:.0f} MiB at most")
        return
    print(f"{threads} threads; TensorFlow {tf.__version__}")
    for steps, restarts in CASES:
        arguments = [f"--steps={steps}", f"--restarts={restarts}", f"--threads={threads}"]
        command = [sys.executable, "-m", "tests.benchmarks.memory", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"PGD, {steps} steps, {restarts} restarts: {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    flags.DEFINE_integer("steps", None, "Be the process of so many steps.", lower_bound=1)
    flags.DEFINE_integer("restarts", 1, "And of so many restarts.", lower_bound=1)
    flags.DEFINE_integer("threads", 0, "Threads; 0 for all cores of this process.", lower_bound=0)
    app.run(main)
