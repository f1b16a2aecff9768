"""The loss around images as PGD sees it: Figures 1 and 2 of Madry et al. 2018, section 3.1, for models of your own.

    python -m eval.landscape --models=robust=models/mnist_fast,natural=models/mnist_natural --num_eval_examples=4 \\
        --restarts=200 --output=reports/landscape

For each of the first test images PGD (--k, --a, --epsilon) ascends from --restarts random starts.
--output=reports/landscape writes, and the same command goes on with,

    reports/landscape.csv .json          the loss that each restart ends with
    reports/landscape_traces.csv .json   the losses on the way, of the first 20 restarts
    reports/landscape_geometry.csv .json how the first 200 maxima lie to each other and to the gradient at the image
    reports/landscape_surface.csv .json  the loss on a plane through each image
    reports/landscape_maxima.png, _traces.png, _surface.png

--redraw draws the pictures again; --report writes a page for a browser.
"""

from absl import flags

from eval import (
    attack_flags,
    common,
    data_flags,
    foreign_flags,
    html_page,
    html_study,
    landscape_figures,
    named_models,
    output_files,
    study,
    tables,
)
from tfrobust import precision
from tfrobust.attacks.base import describe
from tfrobust.landscape import Landscape, cosines, geometry

RESTARTS = flags.DEFINE_integer("restarts", 200, "Random starts for each image.", lower_bound=2)
SURFACE_POINTS = flags.DEFINE_integer("surface_points", 41, "Points along each axis of the plane.", lower_bound=2)
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(attack_flags)
flags.adopt_module_key_flags(named_models)
flags.adopt_module_key_flags(output_files)
flags.adopt_module_key_flags(study)
flags.adopt_module_key_flags(html_page)

DEFAULT_EXAMPLES = 4
TRACES, COMPARED = 20, 200
# Restarts between one saving and the next.
CHUNK = 1000
_KEY = ("model", "image")
STUDIES = {
    "": {"model": str, "image": int, "restart": int, "loss": float},
    "_traces": {"model": str, "image": int, "restart": int, "step": int, "loss": float},
    "_geometry": {
        **{"model": str, "image": int, "maxima": int, "distance": float, "deviation_of_distance": float},
        **{
            "distance_of_starts": float,
            "angle": float,
            "angle_of_starts": float,
            "deviation_of_angle": float,
            "cosine_with_gradient": float,
        },
        **{"lowest_loss": float, "median_loss": float, "highest_loss": float},
    },
    "_surface": {"model": str, "image": int, "along": int, "across": int, "loss": float},
}


def main() -> None:
    """Measures what is missing, prints the geometry, draws."""
    output = output_files.OUTPUT.value
    html_page.check_report_path()
    if drawn := study.output_to_redraw():
        found = {suffix: study.read(f"{drawn}{suffix}", columns) for suffix, columns in STUDIES.items()}
        _draw(drawn, found)
        page(found)
        return
    foreign_flags.refuse(("suite", "rows", "attacks"), "eval.landscape, whose attack is PGD by --k and --a")
    if common.PRECISION.value == "bfloat16":
        raise ValueError(
            "precision must be float32 in eval.landscape, which shows the model's own losses, got bfloat16"
        )
    if not named_models.MODELS.value:
        raise ValueError("models must be one or more paths, separated by commas: --models=name=PATH,...")
    if data_flags.NUM_EVAL_EXAMPLES.value is None:
        flags.FLAGS.num_eval_examples = DEFAULT_EXAMPLES
    attack = attack_flags.pgd(common.threat_model())
    if attack.threat.norm != "linf" or not attack.threat.epsilon or not attack.random_start:
        raise ValueError(
            f"norm must be linf, epsilon above 0 and random_start true for a landscape, got {describe(attack)}"
        )
    models = named_models.load()
    settings = {
        "models": named_models.paths(),
        "weights": named_models.fingerprints(models),
        "attack": describe(attack),
        "steps": attack.steps,
        "step_size": attack.step_size,
        "epsilon": attack.threat.epsilon,
        "norm": attack.threat.norm,
        **data_flags.identity(),
        "num_examples": data_flags.NUM_EVAL_EXAMPLES.value,
        "restarts": RESTARTS.value,
        "surface_points": SURFACE_POINTS.value,
        "seed": common.SEED.value,
    }
    test = data_flags.load_test_set()
    studies = {
        suffix: study.Study(output and f"{output}{suffix}", settings, columns, _KEY)
        for suffix, columns in STUDIES.items()
    }
    examples = f"{len(test.labels)} test examples of {data_flags.DATASET.value}"
    print(f"{examples}, {RESTARTS.value} restarts of {describe(attack)}")
    header = (
        "model",
        "image",
        "lowest",
        "median",
        "highest",
        "distance",
        "of starts",
        "angle",
        "of starts",
        "cos gradient",
    )
    print("  ".join(f"{name:>12}" for name in header), flush=True)
    for name, classifier in models.items():
        landscape = Landscape(precision.inference(classifier), attack, common.EVAL_BATCH_SIZE.value)
        for image, (x, y) in enumerate(zip(test.images, test.labels, strict=True)):
            with common.device():
                _measure(studies, landscape, name, image, x, y)
            row = studies["_geometry"].get(name, image)
            cells = [f"{row[key]:.4g}" for key in ("lowest_loss", "median_loss", "highest_loss", "distance")]
            cells += [
                f"{row[key]:.4g}" for key in ("distance_of_starts", "angle", "angle_of_starts", "cosine_with_gradient")
            ]
            print("  ".join(f"{cell:>12}" for cell in (name, image, *cells)), flush=True)
    found = {suffix: (part.settings, part.rows) for suffix, part in studies.items()}
    if output:
        _draw(output, found)
    page(found)


def _measure(studies, landscape, name, image, x, y):
    """All rows of one model and image, unless they are there."""
    if all(found.has(name, image) for suffix, found in studies.items() if suffix):
        return
    # An image's own seed, so that images do not share their starts.
    seed = (common.SEED.value + image) % 2**31
    done = [row for row in studies[""].rows if (row["model"], row["image"]) == (name, image)]
    first = landscape.maxima(x, y, range(min(COMPARED, RESTARTS.value)), seed=seed)
    keys = {"model": name, "image": image}
    if not done:
        studies[""].add(*({**keys, "restart": r, "loss": float(loss)} for r, loss in enumerate(first.losses[:, -1])))
        done = studies[""].rows[-len(first.losses) :]
    losses = [row["loss"] for row in done]
    for start in range(len(losses), RESTARTS.value, CHUNK):
        tables.show_progress(f"{name}, image {image}", start, RESTARTS.value)
        found = landscape.maxima(x, y, range(start, min(start + CHUNK, RESTARTS.value)), seed=seed).losses[:, -1]
        studies[""].add(*({**keys, "restart": start + r, "loss": float(loss)} for r, loss in enumerate(found)))
        losses += found.tolist()
    tables.clear_progress()
    if not studies["_traces"].has(name, image):
        studies["_traces"].add(
            *(
                {**keys, "restart": r, "step": step, "loss": float(loss)}
                for r, trace in enumerate(first.losses[:TRACES])
                for step, loss in enumerate(trace)
            )
        )
    if not studies["_surface"].has(name, image):
        values = landscape.surface(x, y, SURFACE_POINTS.value, seed=seed)
        studies["_surface"].add(
            *(
                {**keys, "along": i, "across": j, "loss": float(loss)}
                for i, line in enumerate(values)
                for j, loss in enumerate(line)
            )
        )
    if not studies["_geometry"].has(name, image):
        studies["_geometry"].add({**keys, **_geometry(first, landscape.gradient(x, y), sorted(losses))})


def _geometry(found, gradient, losses):
    shape, starts = geometry(found.delta), geometry(found.start)
    return {
        "maxima": len(found.delta),
        "distance": shape.mean_distance,
        "deviation_of_distance": shape.deviation_of_distance,
        "distance_of_starts": starts.mean_distance,
        "angle": shape.mean_angle,
        "angle_of_starts": starts.mean_angle,
        "deviation_of_angle": shape.deviation_of_angle,
        "cosine_with_gradient": float(cosines(found.delta, gradient).mean()),
        "lowest_loss": losses[0],
        "median_loss": losses[len(losses) // 2],
        "highest_loss": losses[-1],
    }


def page(studies) -> None:
    """The pictures and the geometry as --report, where it is asked for; of the other rows there are too many."""
    figures = landscape_figures
    shown = {
        "Losses that the restarts end with, by image": lambda path: figures.draw_maxima(path, *studies[""]),
        "The way there, a line for each restart": lambda path: figures.draw_traces(path, *studies["_traces"]),
        "The loss on a plane through the first image": lambda path: figures.draw_surface(path, *studies["_surface"]),
    }
    settings, rows = studies["_geometry"]
    caption = (
        f"{settings['restarts']:,} restarts of PGD around each of {settings['num_examples']:,} test images of "
        f"{settings['dataset']}, {settings['norm']} epsilon {settings['epsilon']:.4g}, seed {settings['seed']}. The "
        "rows say how the maxima lie to each other and to the gradient at the image."
    )
    html_study.write("The loss around images", caption, settings, rows, shown, study.made_by(output_files.OUTPUT.value))


def _draw(output, studies):
    landscape_figures.draw_maxima(f"{output}_maxima.png", *studies[""])
    landscape_figures.draw_traces(f"{output}_traces.png", *studies["_traces"])
    landscape_figures.draw_surface(f"{output}_surface.png", *studies["_surface"])
    print(f"saved {output}_maxima.png, {output}_traces.png and {output}_surface.png, and their CSV")


if __name__ == "__main__":
    common.run(main)
