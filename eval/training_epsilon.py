"""What the epsilon of adversarial training does to accuracy: the same network, trained at one epsilon after the other.

    python -m eval.training_epsilon --flagfile=train/flags/cifar10_naive_mixed.flags \\
        --model_dir=models/training_epsilon --training_epsilons=0,0.005,0.01,0.02,0.04 \\
        --epsilons=0,0.005,0.01,0.015,0.02,0.03,0.04 --attacks=pgd:steps=40 --output=reports/training_epsilon

The attack that is trained against is that of --k, --a and --random_start at --epsilon; at another epsilon --a grows or
shrinks with it. Epsilon 0 is natural training. --clean_weight=0.5 mixes natural and adversarial loss in equal parts, as
Preaut, Quemada and Durat 2022 (Quick-Attacks, "Impact of the epsilon in Adversarial Training") do.

Every run has a folder under --model_dir. --output=reports/training_epsilon writes reports/training_epsilon.csv, .json
and .png; the same command goes on where it was stopped, and --redraw draws again what is there.
"""

import dataclasses

from absl import flags

from eval import (
    accuracy_curves,
    attack_warnings,
    common,
    data_flags,
    epsilons_flag,
    fraction_flag,
    html_page,
    html_study,
    output_files,
    study,
)
from tfrobust.threat_models import ThreatModel
from train import common as train_common
from train import runs

TRAINING_EPSILONS = flags.DEFINE_list(
    "training_epsilons", None, "Epsilons of the training, separated by commas; 0 trains on natural images."
)
flags.adopt_module_key_flags(train_common)
flags.adopt_module_key_flags(epsilons_flag)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

COLUMNS = {"training_epsilon": float, **accuracy_curves.COLUMNS}
_DEFAULT_ATTACKS = "pgd"


def main() -> None:
    """Makes the runs that are missing, prints the curve of each, draws."""
    output = output_files.OUTPUT.value
    html_page.check_report_path()
    if study.redrawn(COLUMNS, draw, page):
        return
    training_epsilons, epsilons = fraction_flag.values(TRAINING_EPSILONS), epsilons_flag.values()
    if not training_epsilons:
        raise ValueError("training_epsilons must be one or more: --training_epsilons=0,0.01,0.02")
    attacks = common.ATTACKS.value or _DEFAULT_ATTACKS
    accuracy_curves.check_attacks(attacks, epsilons)
    base = train_common.training_attack(common.threat_model())
    trained_against = _training_attacks(base, training_epsilons)
    folder = runs.prepare("eval.training_epsilon")
    # Of all runs but the natural one, which sets the flag.
    clean_weight = train_common.CLEAN_WEIGHT.value
    settings = {
        **runs.settings(),
        "attacks": attacks,
        "norm": common.NORM.value,
        "precision": common.attack_precision(),
        "clean_weight": clean_weight,
        "k": base.steps,
        "step_in_epsilons": base.step_size / base.threat.epsilon,
        "chance": 1 / data_flags.dataset_spec().num_classes,
    }
    found = study.Study(output, settings, COLUMNS, ("training_epsilon", "attack", "epsilon"))
    for number, (training_epsilon, attack) in enumerate(trained_against.items(), start=1):
        print(f"\nrun {number} of {len(trained_against)}: {_label(training_epsilon)}", flush=True)
        # Natural images mixed with themselves would be computed twice.
        varied = {"clean_weight": clean_weight if attack else 0.0}
        rows = _run(found, folder, training_epsilon, attack, attacks, epsilons, varied)
        for row in rows:
            print(f"{row['attack']} at epsilon {row['epsilon']:<8.4g} {row['accuracy']:>7.2%}", flush=True)
        if output:
            draw(f"{output}.png", found.settings, found.rows)
    if output:
        print(f"saved {output}.csv, {output}.json and {output}.png")
    page(found.settings, found.rows)


def _training_attacks(attack, training_epsilons):
    """By epsilon what is trained against: the attack of the flags, its step size in proportion; None at 0."""
    if attack is None or not attack.threat.epsilon:
        raise ValueError(
            "epsilon must be above 0, and adversarial true: --a is the step size at --epsilon, and scaled with it"
        )
    threats = {epsilon: ThreatModel(attack.threat.norm, epsilon) for epsilon in training_epsilons}
    for threat in threats.values():
        attack_warnings.warn_of_absurd_epsilon("training_epsilons", threat)
    return {
        epsilon: dataclasses.replace(
            attack,
            threat=threat,
            step_size=attack.step_size * (epsilon / attack.threat.epsilon),
        )
        if epsilon
        else None
        for epsilon, threat in threats.items()
    }


def _run(found, folder, training_epsilon, attack, attacks, epsilons, varied):
    """The rows of one network, which is trained, or trained further, unless they are there."""
    key = {"training_epsilon": training_epsilon}

    def measure(classifier, train, test):
        for epsilon in epsilons:
            accuracy_curves.measure(found, key, classifier, test, attacks, epsilon)

    names = accuracy_curves.check_attacks(attacks, epsilons)
    keys = [(training_epsilon, name, epsilon) for epsilon in epsilons for name in names]
    if not all(found.has(*key) for key in keys):
        runs.make(folder / f"epsilon_{training_epsilon:g}", attack, measure, **varied)
    return [found.get(*key) for key in keys]


def _label(training_epsilon):
    return f"trained at {training_epsilon:g}" if training_epsilon else "trained on natural images"


def page(settings, rows) -> None:
    """The picture and its numbers as --report, where it is asked for."""
    words = "Accuracy against the attack's epsilon, by epsilon of the training"
    html_study.write_study("Epsilons of adversarial training", f"{_caption(settings)}.", words, draw, settings, rows)


def draw(path: str, settings, rows) -> None:
    """Accuracy against the attack's epsilon, a colour for each epsilon of the training, a style for each attack."""
    found = {
        (_label(epsilon), attack): points
        for (epsilon, attack), points in accuracy_curves.curves(rows, "training_epsilon").items()
    }
    accuracy_curves.draw(path, _caption(settings), found, settings)


def _caption(settings):
    trained = (
        f"trained for {settings['steps']:,} steps of {settings['batch_size']} against PGD {settings['k']} x "
        f"{settings['step_in_epsilons']:g} epsilon, clean weight {settings['clean_weight']:g}"
    )
    return f"{settings['num_examples']:,} test examples of {settings['dataset']}, {trained}, seed {settings['seed']}"


if __name__ == "__main__":
    common.run(main)
