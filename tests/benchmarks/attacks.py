"""Speed and strength of the attacks on a robust challenge CNN, beside other libraries.

    python -m tests.benchmarks.attacks --model=models/mnist_challenge_cnn/model.keras --peers

Everyone attacks the same correctly classified MNIST test images of the same weights with the same budgets, one after
the other in one run: ratios count, absolute figures do not. Of each attack the second call is timed for those that
compile (the first one, on one batch, is shown too); a library that does not compile is called once. Strength is the
accuracy that is left, or the median l2 norm of the change and its success rate, by the model in float32.
"""

import contextlib
import signal
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from tests.benchmarks import peers
from tests.benchmarks.attack_peers import PEERS, Problem
from tfrobust import datasets, seeds, suites
from tfrobust.attacks.apgd import apgd_ce, apgd_t
from tfrobust.attacks.carlini_wagner import CarliniWagnerL2
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.fab import FAB
from tfrobust.attacks.square import Square
from tfrobust.evaluation import evaluate
from tfrobust.precision import AttackTwin
from tfrobust.threat_models import ThreatModel

TARGET_RATIOS = {"autoattack": 3.0, "cw_l2": 3.0}
MINIMUM_NORM = ("cw_l2", "deepfool")


def ours(name: str, problem: Problem, batch_size: int):
    """Our attack as a function of NumPy batches, compiled at its first call."""
    threat = ThreatModel("linf", problem.epsilon)
    model = problem.model
    if name == "autoattack":
        rows = {
            "APGD-CE": apgd_ce(threat, steps=problem.steps),
            "APGD-T": apgd_t(threat, steps=problem.steps),
            "FAB-T": FAB(threat, steps=problem.steps, targets=9),
            "Square": Square(threat, queries=problem.queries),
        }
        if (problem.steps, problem.queries) == (100, 5000) and rows != suites.autoattack(threat):
            raise RuntimeError("the benchmark's AutoAttack is not the library's")
        return lambda x, y: evaluate(model, x, y, rows, seed=0, batch_size=batch_size, only_standing=True).x_adv
    attack = {
        "apgd_ce": apgd_ce(threat, steps=problem.steps),
        "apgd_t": apgd_t(threat, steps=problem.steps),
        "fab_t": FAB(threat, steps=problem.steps, targets=9),
        "square": Square(threat, queries=problem.queries),
        "cw_l2": CarliniWagnerL2(
            steps=problem.cw_steps,
            binary_search_steps=problem.cw_searches,
            initial_const=problem.cw_const,
            learning_rate=problem.cw_learning_rate,
        ),
        "deepfool": DeepFool("l2", steps=50),
    }[name]
    twin = AttackTwin(model, "auto")

    @tf.function(reduce_retracing=True)
    def perturb(x, y, index):
        arguments = {"seed": seeds.per_example(0, index), "judge_fn": lambda x: model(x, training=False)}
        if name in MINIMUM_NORM:
            return attack.minimize(twin.logits_fn(), x, y, **arguments).x_adv
        return attack(twin.logits_fn(), x, y, **arguments)

    def run(x, y):
        starts = range(0, len(x), batch_size)
        parts = [
            perturb(x[i : i + batch_size], y[i : i + batch_size], np.arange(len(x))[i : i + batch_size]) for i in starts
        ]
        return np.concatenate(parts)

    return run


def strength(name: str, model, x, y, x_adv) -> tuple[str, float]:
    """What the attack reached, in words, and as a number that is lower for a stronger attack."""
    wrong = model.predict(x_adv, batch_size=500, verbose=0).argmax(axis=1) != y
    if name not in MINIMUM_NORM:
        if np.abs(x_adv - x).max() > flags.FLAGS.epsilon + 1e-5 or x_adv.min() < 0 or x_adv.max() > 1:
            raise RuntimeError(f"{name} left the ball")
        return f"accuracy {1 - wrong.mean():.2%}", 1 - wrong.mean()
    # Foolbox returns a black image where it failed.
    wrong &= np.any(x_adv != 0, axis=(1, 2, 3))
    norms = np.where(wrong, np.linalg.norm((x_adv - x).reshape(len(x), -1), axis=1), np.inf)
    return f"median l2 {np.median(norms):.4f}, success {wrong.mean():.1%}", float(np.median(norms))


@contextlib.contextmanager
def stopped_after(seconds: float):
    """Raises TimeoutError in the block once it has taken so long; 0 for never."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(name: str, problem: Problem, x, y, batch_size: int, with_peers: bool) -> None:
    """Prints one attack's rows."""
    print(f"\n{name}")
    run = ours(name, problem, batch_size)
    start = time.perf_counter()
    run(x[:batch_size], y[:batch_size])
    first = time.perf_counter() - start
    start = time.perf_counter()
    found = run(x, y)
    seconds = time.perf_counter() - start
    words, _ = strength(name, problem.model, x, y, found)
    print(f"  {'tfrobust':<14} {seconds:>8.1f} s   {words} (first call {first:.1f} s)", flush=True)
    fastest = np.inf
    for peer, build in PEERS[name].items() if with_peers else ():
        try:
            other = build(problem)
        except ImportError as error:
            print(f"  {peer}: skipped, {error}")
            continue
        # Nothing is learned from waiting for one that is slower than another one.
        limit = max(fastest, flags.FLAGS.peer_limit) if np.isfinite(fastest) else 0
        batches = range(0, len(x), batch_size)
        start = time.perf_counter()
        try:
            with stopped_after(limit):
                parts = [np.asarray(other(x[i : i + batch_size], y[i : i + batch_size])) for i in batches]
        except TimeoutError:
            ratio = f"tfrobust is over {limit / seconds:.1f} times as fast"
            print(f"  {peer:<14} {limit:>8.0f} s   stopped; {ratio}", flush=True)
            continue
        taken = time.perf_counter() - start
        fastest = min(fastest, taken)
        words, _ = strength(name, problem.model, x, y, np.concatenate(parts))
        print(f"  {peer:<14} {taken:>8.1f} s   {words}; tfrobust is {taken / seconds:.1f} times as fast", flush=True)
    if np.isfinite(fastest):
        target = TARGET_RATIOS.get(name, 1.0)
        print(f"  against the fastest peer: {fastest / seconds:.1f} times as fast (target {target:g})", flush=True)


def main(_) -> None:
    """Measures the attacks of the flags."""
    values = flags.FLAGS
    threads = peers.prepare(values.threads)
    model = keras.models.load_model(values.model, compile=False)
    test = datasets.load("mnist", "test")
    correct = model.predict(test.images, batch_size=500, verbose=0).argmax(axis=1) == test.labels
    # Spread over the test set, whose first half is the harder one.
    indices = np.flatnonzero(correct)
    indices = indices[np.linspace(0, len(indices) - 1, values.num_examples).astype(int)]
    x, y = test.images[indices], test.labels[indices].astype(np.int64)
    carlini_wagner = (values.cw_steps, values.cw_searches, values.cw_const, values.cw_learning_rate)
    problem = Problem(model, values.epsilon, values.steps, values.queries, *carlini_wagner, threads)
    print(
        f"{len(x)} correctly classified MNIST images, linf {problem.epsilon}, batch {values.batch_size}, {threads} "
        f"threads; {problem.steps} steps, {problem.queries} queries, CW-L2 {problem.cw_searches} x {problem.cw_steps}; "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )
    for name in values.attacks:
        measure(name, problem, x, y, values.batch_size, values.peers)


if __name__ == "__main__":
    # Defined here, so that importing the module defines no flag a second time.
    flags.DEFINE_string("model", None, "A .keras file of the challenge CNN.", required=True)
    flags.DEFINE_bool("peers", False, "Measure other installed libraries too.")
    flags.DEFINE_float("peer_limit", 600, "Seconds after which a peer that is slower than another one is stopped.", 0)
    flags.DEFINE_multi_enum("attacks", list(PEERS), list(PEERS), "Which attacks; repeatable.")
    flags.DEFINE_integer("num_examples", 500, "Images.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 250, "Images for each call.", lower_bound=1)
    flags.DEFINE_float("epsilon", 0.3, "Radius in linf.", 0.0, 1.0)
    flags.DEFINE_integer("steps", 100, "Steps of APGD and FAB.", lower_bound=1)
    flags.DEFINE_integer("queries", 5000, "Queries of Square.", lower_bound=1)
    flags.DEFINE_integer("cw_steps", 200, "Steps of CW-L2 in each search step.", lower_bound=1)
    flags.DEFINE_integer("cw_searches", 5, "Steps of CW-L2's binary search.", lower_bound=1)
    flags.DEFINE_float("cw_const", 10.0, "CW-L2's first constant; with 0.001 it hardly fools a robust model.")
    flags.DEFINE_float("cw_learning_rate", 0.1, "CW-L2's step size.", lower_bound=0.0)
    flags.DEFINE_integer("threads", 0, "Threads of each framework; 0 for all cores of this process.", lower_bound=0)
    app.run(main)
