"""Accuracy against epsilon: several models, several attacks, one plot.

    python -m eval.epsilon_sweep --models=robust=models/mnist_fast,natural=models/mnist_natural \\
        --attacks=fgsm,pgd:steps=40 --epsilons=0,0.05,0.1,0.15,0.2,0.25,0.3,0.35,0.4 --output=reports/sweep

--output=reports/sweep writes reports/sweep.csv, .json and .png; the same command goes on where it was stopped, and
--redraw draws again what is there. --report=sweep.html writes a page for a browser. Attacks have the parameters of
eval.robust_accuracy, and --relu_window is the same for all epsilons; step sizes that are not given follow epsilon. In
the end it says at which epsilon each accuracy falls to that of guessing.
"""

import itertools

from absl import flags

from eval import (
    accuracy_curves,
    common,
    data_flags,
    epsilons_flag,
    foreign_flags,
    fraction_flag,
    html_page,
    html_study,
    named_models,
    output_files,
    relu_window_flag,
    study,
)
from tfrobust import reports

TRAINED_EPSILON = fraction_flag.define_fraction("trained_epsilon", None, "Mark this epsilon, that of the training.")
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(epsilons_flag)
flags.adopt_module_key_flags(named_models)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(relu_window_flag)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

COLUMNS = {"model": str, **accuracy_curves.COLUMNS}
_DEFAULT_ATTACKS = "fgsm,pgd"


def main() -> None:
    """Measures what is missing, prints the curves, draws them."""
    output = output_files.OUTPUT.value
    html_page.check_report_path()
    if study.redrawn(COLUMNS, draw, page):
        return
    foreign_flags.refuse(("suite", "rows"), "eval.epsilon_sweep, which has --attacks")
    if not named_models.MODELS.value:
        raise ValueError("models must be one or more paths, separated by commas: --models=name=PATH,...")
    epsilons = epsilons_flag.values()
    attacks = common.ATTACKS.value or _DEFAULT_ATTACKS
    if common.EPSILON.value is not None:
        raise ValueError("epsilon is --epsilons here, several of them")
    names = accuracy_curves.check_attacks(attacks, epsilons)
    paths = named_models.paths()
    models = named_models.load()
    settings = {
        "models": paths,
        "weights": named_models.fingerprints(models),
        "attacks": attacks,
        "norm": common.NORM.value,
        **data_flags.identity(),
        "num_examples": data_flags.NUM_EVAL_EXAMPLES.value,
        "seed": common.SEED.value,
        "precision": common.attack_precision(),
        "chance": 1 / data_flags.dataset_spec().num_classes,
    }
    if window := relu_window_flag.RELU_WINDOW.value:
        settings["relu_window"] = window
    test = data_flags.load_test_set()
    settings["num_examples"] = len(test.labels)
    found = study.Study(output, settings, COLUMNS, ("model", "attack", "epsilon"))
    print(caption(settings), flush=True)
    width = max(map(len, [*models, "model"]))
    attack_width = max(map(len, [*names, "attack"]))
    print(f"{'model':{width}}  {'attack':{attack_width}}  {'epsilon':>9}  {'accuracy':>9}  {'seconds':>8}")
    for model, classifier in models.items():
        for epsilon in epsilons:
            rows = accuracy_curves.measure(
                found, {"model": model}, classifier, test, attacks, epsilon, relu_window=window
            )
            for row in rows:
                print(
                    f"{model:{width}}  {row['attack']:{attack_width}}  {epsilon:>9.4g}  {row['accuracy']:>9.2%}  "
                    f"{row['seconds']:>8.1f}",
                    flush=True,
                )
    for (model, attack), epsilon in chance_epsilons(found.settings, found.rows).items():
        words = f"is at chance from epsilon {epsilon:.4g} on" if epsilon is not None else "stays above chance"
        print(f"{model} under {attack} {words}")
    if output:
        draw(f"{output}.png", found.settings, found.rows)
        print(f"saved {output}.csv, {output}.json and {output}.png")
    page(found.settings, found.rows)


def chance_epsilons(settings, rows) -> dict[tuple[str, str], float | None]:
    """By model and attack the epsilon at which the accuracy falls to chance, on straight lines between those measured.

    None where it does not. It is the first one: under an attack of one step accuracy may rise again.
    """
    found = {}
    for key, curve in accuracy_curves.curves(rows).items():
        found[key] = curve[0][0] if curve[0][1] <= settings["chance"] else None
        for (low, above), (high, below) in itertools.pairwise(curve):
            if found[key] is None and above > settings["chance"] >= below:
                found[key] = low + (high - low) * (above - settings["chance"]) / (above - below)
    return found


def caption(settings) -> str:
    """What was measured, in a line."""
    window = settings.get("relu_window")
    through = f", {reports.gradient_words('gradients', window)}" if window else ""
    return (
        f"{settings['num_examples']:,} test examples of {settings['dataset']}, {settings['norm']}, attacks "
        f"{settings['attacks']}, seed {settings['seed']}{through}"
    )


def page(settings, rows) -> None:
    """The curves and their numbers as --report, where it is asked for."""
    words = "Accuracy against epsilon, by model and attack"
    html_study.write_study("Accuracy against epsilon", f"{caption(settings)}.", words, draw, settings, rows)


def draw(path: str, settings, rows) -> None:
    """The curves as PNG: a colour for each model, a style for each attack."""
    accuracy_curves.draw(path, caption(settings), accuracy_curves.curves(rows), settings, TRAINED_EPSILON.value)


if __name__ == "__main__":
    common.run(main)
