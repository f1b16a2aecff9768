"""Whether a twin of lower precision attacks as strongly as float32 does.

    python -m tests.benchmarks.precision --model=model.keras --num_examples=2000 --seeds=0,1

Robust accuracy and mean loss under PGD linf 0.3 (step size 0.01, one random start) by gradients in float32 and in
bfloat16, and which of the two `evaluate` takes by itself, as "auto". Every prediction is the classifier's own in
float32. The claim is that "auto" is no weaker: in the mean over seeds it leaves at most 0.1 points more standing. Seeds
alone move robust accuracy by 0.2 points and more, so that a small difference needs many examples and several seeds.
"""

import keras
import numpy as np
from absl import app, flags

from tfrobust import datasets
from tfrobust.attacks.base import describe
from tfrobust.attacks.pgd import PGD
from tfrobust.evaluation import evaluate
from tfrobust.gradient_agreement import LEAST_AGREEMENT, agreeing_functions, step_agreement
from tfrobust.precision import functions
from tfrobust.threat_models import ThreatModel

CLAIM_POINTS = 0.1


def robust_accuracy(classifier, test, attack, *, seed, precision, batch_size) -> tuple[float, float, float]:
    """Percent of the images that stand under the attack, their mean cross-entropy, and its seconds."""
    report = evaluate(
        classifier, test.images, test.labels, {"PGD": attack}, seed=seed, precision=precision, batch_size=batch_size
    )
    found = report.attacks[0]
    return 100 * found.accuracy, found.mean_loss, found.seconds


def main(_) -> None:
    """Prints accuracy and seconds for each precision and seed, then the differences of the means."""
    values = flags.FLAGS
    classifier = keras.models.load_model(values.model, compile=False)
    test = datasets.load(values.dataset, "test", num_examples=values.num_examples)
    attack = PGD(ThreatModel("linf", 0.3), steps=values.steps, step_size=0.01)
    seeds = [int(seed) for seed in values.seeds]
    print(f"{describe(attack)}; {values.model}, {values.dataset}, first {len(test.labels)} test images")
    exact, lower = (functions(classifier, precision).gradient_fn for precision in ("float32", "bfloat16"))
    examples = (test.images, test.labels, attack.threat)
    agreement = step_agreement(exact, lower, *examples, batch_size=values.batch_size)
    auto = agreeing_functions(classifier, "auto", *examples, batch_size=values.batch_size)
    print(
        f"cosine of the steps of bfloat16 and float32: {agreement:.3f} (auto wants {LEAST_AGREEMENT}, and a CPU with "
        f"bfloat16 instructions); auto is {auto.precision}"
    )
    print(f"{'gradients':<12} {'seed':>6} {'accuracy %':>12} {'mean loss':>11} {'seconds':>9}")
    accuracy = {"float32": [], "bfloat16": []}
    for seed in seeds:
        for precision, found in accuracy.items():
            percent, loss, seconds = robust_accuracy(
                classifier, test, attack, seed=seed, precision=precision, batch_size=values.batch_size
            )
            found.append(percent)
            print(f"{precision:<12} {seed:>6} {percent:>12.2f} {loss:>11.4f} {seconds:>9.1f}", flush=True)
    means = {precision: np.mean(found) for precision, found in accuracy.items()}
    for precision, mean in means.items():
        print(f"{precision:<12} {'mean':>6} {mean:>12.2f}")
    print(f"bfloat16 minus float32: {means['bfloat16'] - means['float32']:+.2f} points")
    difference = means[auto.precision] - means["float32"]
    print(f"auto minus float32: {difference:+.2f} points (claim: at most +{CLAIM_POINTS}, no weaker)")


if __name__ == "__main__":
    # Defined here, so that importing the module defines no flag a second time.
    flags.DEFINE_string("model", None, "A .keras file.", required=True)
    flags.DEFINE_enum("dataset", "mnist", sorted(datasets.SPECS), "Whose test images are attacked.")
    flags.DEFINE_integer("num_examples", 2000, "The first so many test images.", lower_bound=1)
    flags.DEFINE_list("seeds", ["0", "1"], "Seeds of the attack's noise.")
    flags.DEFINE_integer("steps", 100, "Steps of PGD.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 100, "Images for each compiled call.", lower_bound=1)
    app.run(main)
