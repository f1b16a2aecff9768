"""Speed of PGD on the challenge CNN, beside other libraries and the machine's ceiling.

    python -m tests.benchmarks.pgd --peers --batch_sizes=50,200

One sample-step is one image through one forward pass and one input gradient. All implementations attack the same
random images with the same random weights, one after the other, round by round: a shared machine slows all of them,
so the ratios within one run count and the absolute figures do not. The best round of each is reported, by the clock
and by the processor time of all threads. On a busy machine the latter is the steadier one, and torch needs
OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0, or else its threads burn their time waiting for each other.
"""

import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from tests.benchmarks import ceilings, peers
from tests.benchmarks.peers import PEERS, Problem, Run
from tfrobust import frozen_weights
from tfrobust.attacks.pgd import PGD
from tfrobust.models.mnist import challenge_cnn
from tfrobust.precision import AttackTwin
from tfrobust.threat_models import ThreatModel

OURS = "tfrobust, auto"
CONVOLUTION, MATMUL = "bfloat16 convolution", "bfloat16 matmul"

# Of a ceiling in a row, so that the call itself does not count.
CALLS = 10

# How many times faster than the others we want to be, and the share of the convolution ceiling.
TARGET_RATIOS = {
    "CleverHans tf2": 2.2,
    "ART TensorFlowV2": 4.0,
    "Foolbox TensorFlow": 6.0,
    "torch by hand, bfloat16": 1.25,
}
TARGET_SHARE = 0.7


def tfrobust_pgd(problem: Problem, precision: str | None) -> Run:
    """Our attack in one graph, on the twin of that precision, or on the Keras model itself for None."""
    attack = PGD(ThreatModel("linf", problem.epsilon), steps=problem.steps, step_size=problem.step_size)
    twins = {frozen: AttackTwin(problem.model, precision, frozen=frozen) for frozen in (False, True) if precision}

    @tf.function
    def perturb(x, y):
        if not precision:
            return attack(lambda x: problem.model(x, training=False), x, y, seed=0)
        # As evaluations of the whole test set have it.
        twin = twins[frozen_weights.pay(len(x), 10_000)]
        return attack(twin.logits_fn(), x, y, seed=0)

    return lambda x, y: perturb(tf.constant(x), tf.constant(y)).numpy()


def build(problem: Problem, with_peers: bool) -> dict[str, Run]:
    """All implementations that can be run here, by name."""
    runs = {f"tfrobust, {p}": tfrobust_pgd(problem, p) for p in ("auto", "bfloat16", "float32")}
    runs["tfrobust's loop, Keras model"] = tfrobust_pgd(problem, None)
    for name, builder in PEERS.items() if with_peers else ():
        try:
            runs[name] = builder(problem)
        except ImportError as error:
            print(f"{name}: skipped, {error}")
    return runs


def best_seconds(jobs: Mapping[str, Callable[[], object]], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Shortest wall-clock and processor times of each job over interleaved rounds, after one that does not count."""
    wall = dict.fromkeys(jobs, float("inf"))
    processor = dict(wall)
    for i in range(repeats + 1):
        for name, job in jobs.items():
            wall_start, processor_start = time.perf_counter(), time.process_time()
            job()
            if i:
                processor[name] = min(processor[name], time.process_time() - processor_start)
                wall[name] = min(wall[name], time.perf_counter() - wall_start)
    return wall, processor


def measure(runs: Mapping[str, Run], problem: Problem, batch_size: int, repeats: int) -> None:
    """Times everything at one batch size and prints the two tables."""
    rng = np.random.default_rng(0)
    x = rng.random((batch_size, 28, 28, 1), dtype=np.float32)
    y = rng.integers(0, 10, batch_size)
    for name, run in runs.items():
        _check(name, run(x, y), x, problem.epsilon)

    jobs = {name: (lambda run=run: run(x, y)) for name, run in runs.items()}
    limits = {CONVOLUTION: ceilings.convolution(batch_size), MATMUL: ceilings.matmul()}
    for name, (run, _) in limits.items():
        jobs[name] = lambda run=run: [run() for _ in range(CALLS)][-1].numpy()
    wall, processor = best_seconds(jobs, repeats)

    flops = batch_size * problem.steps * ceilings.flops_per_sample_step(problem.model)
    print(f"\nbatch {batch_size}")
    for name, (_, work) in limits.items():
        by_wall, by_processor = (CALLS * work / seconds[name] / 1e9 for seconds in (wall, processor))
        print(f"{name:<30} {by_wall:>8.0f} GFLOP/s, {by_processor:.0f} for each second of a processor")
    ceiling = CALLS * limits[CONVOLUTION][1]
    wall_share, processor_share = (
        {name: flops / seconds[name] / (ceiling / seconds[CONVOLUTION]) for name in runs}
        for seconds in (wall, processor)
    )
    header = f"{'wall ms':>9} {'sample-steps/s':>15} {'of ceiling':>11} {'processor ms':>13} {'of ceiling':>11}"
    print(f"\n{'implementation':<30} {header}")
    for name in runs:
        rate = batch_size * problem.steps / wall[name]
        print(
            f"{name:<30} {wall[name] * 1e3:>9.0f} {rate:>15.0f} {wall_share[name]:>11.0%} "
            f"{processor[name] * 1e3:>13.0f} {processor_share[name]:>11.0%}"
        )

    print(f"\n{OURS + ', against':<30} {'wall':>9} {'processor':>10} {'target':>7}")
    for name in runs:
        if name != OURS:
            target = TARGET_RATIOS.get(name, "")
            by_wall, by_processor = wall[name] / wall[OURS], processor[name] / processor[OURS]
            print(f"{name:<30} {by_wall:>9.2f} {by_processor:>10.2f} {target:>7}")
    print(f"{CONVOLUTION:<30} {wall_share[OURS]:>9.0%} {processor_share[OURS]:>10.0%} {TARGET_SHARE:>7.0%}")


def _check(name, x_adv, x, epsilon):
    """A peer that did not attack would be fast: most pixels must have moved, none too far."""
    x_adv = np.asarray(x_adv).reshape(x.shape)
    distance = np.abs(x_adv - x)
    if distance.max() > epsilon + 1e-5 or np.median(distance) < epsilon / 100:
        raise RuntimeError(f"{name} did not run the attack: distances up to {distance.max():g}")


def main(_) -> None:
    """Measures at every batch size."""
    values = flags.FLAGS
    threads = peers.prepare(values.threads)
    problem = Problem(challenge_cnn(seed=0), epsilon=0.3, step_size=0.01, steps=values.steps, threads=threads)
    runs = build(problem, values.peers)
    print(
        f"PGD-{problem.steps}, linf {problem.epsilon}, step {problem.step_size}, random start; {threads} threads; "
        f"best of {values.repeats}; {ceilings.flops_per_sample_step(problem.model) / 1e6:.1f} MFLOP a sample-step; "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )
    for batch_size in values.batch_sizes:
        measure(runs, problem, int(batch_size), values.repeats)


if __name__ == "__main__":
    # Defined here, so that importing the module defines no flag a second time.
    flags.DEFINE_bool("peers", False, "Measure other installed libraries too.")
    flags.DEFINE_list("batch_sizes", ["50", "200", "500"], "Images for each call.")
    flags.DEFINE_integer("repeats", 5, "Rounds that count, the best of which is reported.", lower_bound=1)
    flags.DEFINE_integer("steps", 40, "Steps of PGD.", lower_bound=1)
    flags.DEFINE_integer("threads", 0, "Threads of each framework; 0 for all cores of this process.", lower_bound=0)
    app.run(main)
