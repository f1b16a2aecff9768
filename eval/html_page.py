"""Self-contained HTML pages: images and style are inside, nothing is fetched, nothing is run.

    lead = html_page.paragraph("An introduction")
    html_page.write("page.html", "A <title>", "A <title>", lead, {"Numbers": [html_page.table(...)]})

Every piece is an `Html`; whatever is not is text, and is escaped. So no name of a model or class can break a page.
"""

import base64
import contextlib
import datetime
import html
import importlib.metadata
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from eval import html_style, output_files

REPORT = flags.DEFINE_string(
    "report", None, "Write what was found as one self-contained HTML page to this file, which ends in .html."
)

_VOID = frozenset({"img", "link", "meta", "wbr"})


class Html(str):
    """Markup, as opposed to text."""


def check_report_path(*, needs_output: bool = False) -> str | None:
    """--report; asked before the work is done.

    Args:
      needs_output: whether the page is made of pictures that are kept at --output.

    Raises:
      ValueError: unless it ends in .html, and if it needs an --output that is not given.
      OSError: if it cannot be written.
    """
    path = REPORT.value
    if path:
        if not path.endswith(".html"):
            raise ValueError(f"report must be a file that ends in .html, got {path!r}")
        output_files.check_output_path(path)
        if needs_output and not output_files.OUTPUT.value:
            raise ValueError("report needs --output, where the pictures are kept")
    return path


def escaped(content: Any) -> Html:
    """`content` as markup: `Html` as it is, anything else as text."""
    return content if isinstance(content, Html) else Html(html.escape(str(content)))


def joined(*contents: Any) -> Html:
    """Contents one behind the other; None is left out."""
    return Html("".join(escaped(content) for content in contents if content is not None))


def element(tag: str, *contents: Any, **attributes: Any) -> Html:
    """An element; attributes that are Python's words are written with a "_" at the end, others in them are "-"."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{written}>") if tag in _VOID else Html(f"<{tag}{written}>{joined(*contents)}</{tag}>")


def paragraph(*contents: Any, **attributes: Any) -> Html:
    """A paragraph."""
    return element("p", *contents, **attributes)


def bullets(items: Sequence[Any]) -> Html:
    """A list."""
    return element("ul", *(element("li", item) for item in items))


def table(
    caption: str, header: Sequence[Any], rows: Sequence[Sequence[Any]], *, words: Sequence[int] = (), first: int = 0
) -> Html:
    """A table that scrolls by itself where it is wider than the screen; the first cell of a row is its head.

    Args:
      words: columns of text, which are flush left and broken; all others but the first are numbers.
      first: so many rows, from the top, are set off from the others.
    """

    def kind(column):
        return "words" if column in words else None

    head = [element("th", cell, scope="col", class_=kind(column)) for column, cell in enumerate(header)]
    body = []
    for number, (name, *cells) in enumerate(rows):
        cells = [element("td", cell, class_=kind(column)) for column, cell in enumerate(cells, start=1)]
        cells = [element("th", name, scope="row"), *cells]
        body.append(element("tr", *cells, class_="first" if number < first else None))
    inside = element("table", element("thead", element("tr", *head)), element("tbody", *body), aria_label=caption)
    # Above the table and not in it, where it would be as wide, and be cut off.
    return joined(paragraph(caption, class_="caption"), _scrolling(inside, caption))


def share(value: float, digits: int = 2, kind: str | None = None) -> Html:
    """A share in [0, 1] in percent, with a bar before it that is as long."""
    filled = element("span", style=f"width: {100 * value:.2f}%")
    bar = element("span", filled, class_=f"bar {kind}" if kind else "bar", aria_hidden="true")
    return joined(bar, element("span", f"{value:.{digits}%}", class_="share"))


def path(text: str) -> Html:
    """A path that may be broken behind its slashes."""
    return Html("/<wbr>".join(html.escape(part) for part in text.split("/")))


def image(png: bytes, alt: str, class_: str, density: float = 1.0) -> Html:
    """A PNG file, inside of the page, with `density` of its pixels to one of CSS."""
    width, height = (round(value / density) for value in struct.unpack(">II", png[16:24]))
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return element("img", src=source, alt=alt, width=width, height=height, class_=class_)


def plot(png: bytes, alt: str, caption: Any = None, density: float = 1.0) -> Html:
    """A diagram. Where the screen is narrow it shrinks no further than is legible, and scrolls by itself."""
    (width,) = struct.unpack(">I", png[16:20])
    picture = element("div", image(png, alt, "plot", density), style=f"min-width: {0.55 * width / density:.0f}px")
    return element("figure", _scrolling(picture, "Diagram"), caption and element("figcaption", caption))


def cards(values: Mapping[str, tuple[Any, Any]]) -> Html:
    """The numbers that matter most, the first one above all: by their names, each with words below it."""
    found = []
    for name, (value, words) in values.items():
        parts = (element("dt", name), element("dd", value, class_="value"), element("dd", words, class_="faint"))
        found.append(element("div", *parts, class_="card" if found else "card first"))
    return element("dl", *found, class_="cards")


def reproduction(made_by: Mapping[str, str]) -> list[Html]:
    """The command, the machine and the versions behind a page; `made_by` as of `provenance.made_by`."""
    return [
        element("pre", made_by["command"]),
        paragraph(f"Made on {made_by['machine']}, {_versions()}. Page of {now()}."),
    ]


def _scrolling(content, label):
    # Focusable, so that it scrolls by keyboard too.
    return element("div", content, class_="scroll", role="region", tabindex=0, aria_label=label)


def now() -> str:
    """Date and time, to the minute, with the time zone."""
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")


def _versions():
    found = []
    for name in ("tfrobust", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def page(title: str, heading: Any, lead: Html, sections: Mapping[str, Sequence[Html]]) -> str:
    """A whole page.

    Args:
      title: of the window.
      heading: what stands above everything.
      lead: what stands before the first section.
      sections: their contents by their headings.
    """
    names = {name: f"section-{number}" for number, name in enumerate(sections, start=1)}
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        # Browsers ask the server for an icon otherwise.
        element("link", rel="icon", href="data:,"),
        element("title", title),
        # Not escaped: in a style element entities would be taken for what they are.
        element("style", Html(html_style.CSS)),
    )
    links = [element("a", name, href=f"#{key}") for name, key in names.items()]
    content = [
        element("section", element("h2", name, id=names[name]), *parts, aria_labelledby=names[name])
        for name, parts in sections.items()
    ]
    body = element(
        "body",
        element("header", element("h1", heading), lead),
        element("nav", bullets(links), aria_label="Sections"),
        element("main", *content),
        element("footer", paragraph(f"Written by tfrobust, {now()}.", class_="faint")),
    )
    return "<!DOCTYPE html>\n" + element("html", head, "\n", body, lang="en") + "\n"


def write(output: str, title: str, heading: Any, lead: Html, sections: Mapping[str, Sequence[Html]]) -> None:
    """Writes a `page`, whole or not at all, and says so."""
    with output_files.whole_file(output) as file:
        file.write(page(title, heading, lead, sections).encode(errors="xmlcharrefreplace"))
    print(f"saved {output}")
