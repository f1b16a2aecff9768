"""What all figures share."""

from eval import figures


def test_dollar_signs_are_letters():
    # An odd one, and what would be no mathematics.
    figure, (axes,) = figures.new(1, "models/a$b, c^^d$ and $e")
    axes.plot([1, 10, 100], [1, 2, 3], label="$x^^y$")
    axes.set(title="$^^", xlabel="a$b$", xscale="log")
    figures.legend_below(figure, axes)
    assert figures.png(figure).startswith(b"\x89PNG")
    figures.png(figure)
    assert figure.get_suptitle() == "models/a\\$b, c^^d\\$ and \\$e"
    # Powers of ten at the ticks are mathematics all the same.
    assert any("10" in label.get_text() and "\\$" not in label.get_text() for label in axes.get_xticklabels())
