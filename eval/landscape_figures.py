"""The pictures of eval.landscape."""

import numpy as np

from eval import figures

# Images in a picture; more would not be legible.
SHOWN = 5
# What a loss of 0 is drawn as on a logarithmic axis: less than float32 makes of a cross-entropy.
_LEAST = 1e-8


def draw_maxima(path: str, settings, rows) -> None:
    """Histograms of the losses that restarts end with, models overlaid, a panel for each image (Figure 1)."""
    models, images = _names(rows)
    # Cross-entropies are; margins may be negative.
    logarithmic = min(row["loss"] for row in rows) >= 0
    figure, panels = figures.new(len(images), _caption(settings, f"{settings['restarts']:,} restarts"), width=3.2)
    for axes, image in zip(panels, images, strict=True):
        for index, model in enumerate(models):
            losses = np.array([row["loss"] for row in rows if (row["model"], row["image"]) == (model, image)])
            losses = np.maximum(losses[np.isfinite(losses)], _LEAST if logarithmic else -np.inf)
            if len(losses):
                share = np.full(len(losses), 100 / len(losses))
                axes.hist(losses, _bins(losses, logarithmic), weights=share, color=f"C{index}", alpha=0.6, label=model)
        axes.set(xscale="log" if logarithmic else "linear", xlabel="final loss", title=f"image {image}")
    panels[0].set_ylabel("share of the restarts (%)")
    figures.legend_below(figure, panels[0])
    figures.save(figure, path)


def draw_traces(path: str, settings, rows) -> None:
    """The loss over PGD's iterations, a line for each restart, a panel for each model (Figure 2); the first image."""
    models, images = _names(rows)
    figure, panels = figures.new(len(models), _caption(settings, f"image {images[0]}"), width=4.0)
    for index, (axes, model) in enumerate(zip(panels, models, strict=True)):
        lines = {}
        for row in rows:
            if (row["model"], row["image"]) == (model, images[0]):
                lines.setdefault(row["restart"], []).append((row["step"], row["loss"]))
        for points in lines.values():
            steps, losses = np.array(sorted(points)).T
            axes.plot(steps, losses, color=f"C{index}", linewidth=0.8, alpha=0.7)
        axes.set(xlabel="PGD iterations", title=f"{model}, {len(lines)} restarts")
        # Margins may be negative.
        if min(loss for points in lines.values() for _, loss in points) >= 0:
            axes.set_ylim(bottom=0)
    panels[0].set_ylabel("loss")
    figures.save(figure, path)


def draw_surface(path: str, settings, rows) -> None:
    """The loss on a plane through the first image, a panel for each model, each with a scale of its own.

    Outside of the dashed lines some pixels change by more than epsilon.
    """
    models, images = _names(rows)
    words = f"image {images[0]}, dashed: within epsilon"
    figure, panels = figures.new(len(models), _caption(settings, words), width=4.2)
    epsilon, points = settings["epsilon"], settings["surface_points"]
    for axes, model in zip(panels, models, strict=True):
        values = np.zeros([points, points])
        for row in rows:
            if (row["model"], row["image"]) == (model, images[0]):
                values[row["along"], row["across"]] = row["loss"]
        axes.grid(False)
        # The first and the last value are those at epsilon, in the middle of their cells.
        edge = epsilon * points / (points - 1)
        extent = (-edge, edge, -edge, edge)
        picture = axes.imshow(values, origin="lower", extent=extent, cmap="viridis")
        axes.plot(0, 0, "r+", markersize=10)
        # Where both signs agree a pixel changes by the sum: inside of these lines all stay within epsilon.
        axes.plot([0, epsilon, 0, -epsilon, 0], [epsilon, 0, -epsilon, 0, epsilon], "w--", linewidth=1)
        axes.set(xlabel="along random signs", title=model)
        figure.colorbar(picture, ax=axes, label="loss", shrink=0.8)
    panels[0].set_ylabel("along the gradient's signs")
    figures.save(figure, path)


def _names(rows):
    """Models and the images shown, in their order."""
    if not rows:
        raise ValueError("output has no rows to draw yet")
    models, images = (list(dict.fromkeys(row[name] for row in rows)) for name in ("model", "image"))
    return models, images[:SHOWN]


def _bins(losses, logarithmic):
    """Twenty bins that look equally wide."""
    low, high = losses.min(), losses.max()
    if logarithmic:
        return np.geomspace(low, high * 1.001, 21)
    return np.linspace(low, high + 1e-3 * max(abs(high), 1e-6), 21)


def _caption(settings, words):
    attack = (
        f"PGD {settings['steps']} x {settings['step_size']:.4g}, {settings['norm']} epsilon {settings['epsilon']:.4g}"
    )
    return f"{settings['dataset']}, {words}, {attack}, seed {settings['seed']}"
