"""How every figure looks, and how it gets into a file."""

import io

from eval import output_files

# Distinct also in grey and for the colour-blind.
MARKERS = "osD^vPX*"
_DPI = 120


def new(columns: int, caption: str, *, width: float = 5.0, height: float = 4.2):
    """A figure with a caption and `columns` panels beside each other, each of `width` by `height` inches."""
    figure, panels = table(1, columns, caption, width=width, height=height)
    for axes in panels[0]:
        axes.grid(alpha=0.3)
    return figure, panels[0]


def table(rows: int, columns: int, caption: str, *, width: float, height: float):
    """A figure with a caption and panels [rows, columns] for pictures, each of `width` by `height` inches."""
    # Here, because matplotlib is slow to import.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + width * columns, height * rows), layout="constrained")
    figure.suptitle(caption, fontsize=9, wrap=True)
    return figure, figure.subplots(rows, columns, squeeze=False)


def legend_below(figure, axes, columns: int = 6) -> None:
    """One legend for all panels, that of `axes`, below them."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8)


def png(figure, dpi: int = _DPI) -> bytes:
    """The figure as a PNG file."""
    from matplotlib.text import Text

    # Names and paths may have dollar signs in them; what is written at ticks by matplotlib itself may be mathematics.
    ticks = {label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    for text in figure.findobj(Text):
        if text not in ticks:
            text.set_text(text.get_text().replace("\\$", "$").replace("$", "\\$"))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def save(figure, path: str, *, photographs: bool = False) -> None:
    """Writes the figure as PNG, whole or not at all; one of photographs in 256 colours, a third of the size."""
    content = png(figure)
    if photographs:
        from PIL import Image

        reduced = io.BytesIO()
        Image.open(io.BytesIO(content)).convert("RGB").quantize(256).save(reduced, format="png", optimize=True)
        content = reduced.getvalue()
    with output_files.whole_file(path) as file:
        file.write(content)
