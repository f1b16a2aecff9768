"""Table 1 of Deep Defense (Yan, Guo and Zhang 2018): accuracy, rho2, and accuracy under FGSM at parts of eps_ref.

    python -m eval.deep_defense --reference=models/mnist_mlp --deep_defense=models/deep_defense_mnist_mlp \\
        --parseval=models/mlp_parseval --paper=mnist_mlp --output=table.json --markdown=table.md --convergence=curves

eps_ref is the epsilon at which the model of --deep_defense has an accuracy of 50 % under FGSM. --convergence draws the
paper's Figure 2 from the curve.csv that each run of train.deep_defense left in its folder.
"""

import pathlib

from absl import flags

from eval import (
    common,
    curve_files,
    data_flags,
    deep_defense_figures,
    deep_defense_measures,
    markdown,
    output_files,
    provenance,
    reference,
)
from tfrobust import deep_defense_tables, metrics
from tfrobust.deep_defense_tables import PARTS, PGD_PARTS

_MODELS = {
    name: flags.DEFINE_string(name, None, f"The model of {words}.")
    for name, words in (
        ("parseval", "Parseval training"),
        ("adv_train_1", "adversarial training on a fixed set of DeepFool's"),
        ("adv_train_2", "adversarial training with FGSM"),
        ("clean", "plain fine-tuning"),
        ("deep_defense", "Deep Defense"),
        ("combined", "Deep Defense with adversarial training II"),
    )
}
PAPER = flags.DEFINE_enum(
    "paper", None, list(deep_defense_tables.PUBLISHED), "Show the paper's numbers of this network beside."
)
WITH_PGD = flags.DEFINE_bool(
    "pgd", True, "Also measure accuracy under PGD with 40 steps, which the paper does not, at 0.5 and 1 eps_ref."
)
CONVERGENCE = flags.DEFINE_string(
    "convergence", None, "Write the accuracy and rho2 of each epoch to this path with .csv and .png behind it."
)
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(markdown)
flags.adopt_module_key_flags(reference)


def main() -> None:
    """Measures the models that are given, prints the table, and writes what was asked for."""
    reference.check()
    if not _MODELS["deep_defense"].value:
        raise ValueError("deep_defense must be given: --deep_defense=MODEL, which decides eps_ref")
    convergence = CONVERGENCE.value and f"{CONVERGENCE.value}.csv"
    for target in (output_files.OUTPUT.value, markdown.MARKDOWN.value, convergence):
        if target:
            output_files.check_output_path(target)
    paths = {"reference": reference.REFERENCE.value}
    paths |= {name: flag.value for name, flag in _MODELS.items() if flag.value}
    curves = _curves(paths) if convergence else {}
    center = reference.mean_image(data_flags.load_training_set())
    models = {name: reference.load(path, center, name) for name, path in paths.items()}
    test = data_flags.load_test_set()
    epsilon = metrics.SignAttack(models["deep_defense"], test.images, test.labels).epsilon_at(0.5)
    rows = _measure_and_print(models, test, center, epsilon)
    content = {
        "dataset": data_flags.DATASET.value,
        "num_examples": len(test.labels),
        "paper": PAPER.value,
        "seed": common.SEED.value,
        "precision": common.attack_precision(),
        "eps_ref": epsilon,
        "parts": PARTS,
        "pgd_parts": PGD_PARTS if WITH_PGD.value else (),
        "models": paths,
        "rows": rows,
        **provenance.made_by(),
    }
    if output_files.OUTPUT.value:
        output_files.write_json(output_files.OUTPUT.value, content)
    if markdown.MARKDOWN.value:
        with output_files.whole_file(markdown.MARKDOWN.value) as file:
            file.write(markdown.deep_defense(content).encode())
    if curves:
        name = pathlib.Path(paths["reference"]).name
        caption = f"Fine-tuning of {name} on {content['dataset']}; rho2 on test examples, DeepFool with 5 iterations"
        deep_defense_figures.write_convergence(CONVERGENCE.value, curves, caption)


def _measure_and_print(models, test, center, epsilon):
    """The measures of every model, each printed as soon as it is known."""
    print(f"{len(test.labels)} test examples of {data_flags.DATASET.value}, eps_ref {epsilon:.5f} of pixels in [0, 1]")
    header = ["method", "accuracy", "rho2", "rho2 (5)", "fooled", *(f"@{part:g} eps_ref" for part in PARTS)]
    header += [f"PGD @{part:g}" for part in PGD_PARTS] if WITH_PGD.value else []
    print(f"{header[0]:14}" + "".join(f"{name:>14}" for name in header[1:]), flush=True)
    rows = {}
    for name, model in models.items():
        meter = deep_defense_measures.rho_meter(model, center)
        rows[name] = row = deep_defense_measures.measure(model, test, meter, epsilon, WITH_PGD.value)
        cells = [f"{row['accuracy']:.2%}", f"{row['rho2']:.4g}", f"{row['rho2_5']:.4g}"]
        cells += [f"{row['deepfool_success_rate']:.2%}", *(f"{value:.2%}" for value in row["fgsm_accuracies"])]
        cells += [f"{value:.2%}" for value in row.get("pgd_accuracies", ())]
        print(f"{name:14}" + "".join(f"{cell:>14}" for cell in cells), flush=True)
        known = deep_defense_tables.PUBLISHED.get(PAPER.value, {}).get(name)
        if known:
            cells = [f"{known.accuracy:.2%}", f"{known.rho2:.4g}", "", "", *(f"{a:.2%}" for a in known.accuracies)]
            print(f"{'  the paper':14}" + "".join(f"{cell:>14}" for cell in cells), flush=True)
    return rows


def _curves(paths):
    """The curves of the runs among the models, by method."""
    found = {name: curve_files.read(pathlib.Path(path) / curve_files.FILE) for name, path in paths.items()}
    found = {name: rows for name, rows in found.items() if rows}
    if not found:
        folders = ", ".join(paths.values())
        raise ValueError(f"convergence needs a model that is a folder with {curve_files.FILE}, got {folders}")
    return found


if __name__ == "__main__":
    common.run(main)
