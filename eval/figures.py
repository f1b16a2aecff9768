"""How every figure looks, and how it gets into a file."""

import io

from eval import output_files

# Distinct also in grey and for the colour-blind.
MARKERS = "osD^vPX*"
_DPI = 120


def new(columns: int, caption: str, *, width: float = 5.0, height: float = 4.2):
    """A figure with a caption and `columns` panels beside each other, each of `width` by `height` inches."""
    # Here, because matplotlib is slow to import.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + width * columns, height), layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes in panels:
        axes.grid(alpha=0.3)
    figure.suptitle(caption, fontsize=9, wrap=True)
    return figure, panels


def legend_below(figure, axes, columns: int = 6) -> None:
    """One legend for all panels, that of `axes`, below them."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8)


def png(figure, dpi: int = _DPI) -> bytes:
    """The figure as a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def save(figure, path: str) -> None:
    """Writes the figure as PNG, whole or not at all."""
    with output_files.whole_file(path) as file:
        file.write(png(figure))
