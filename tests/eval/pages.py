"""Reads pages as a browser does, and refuses what a self-contained one does not have."""

import html.parser
import re

VOID = {"img", "link", "meta", "wbr"}


class Page(html.parser.HTMLParser):
    """A page whose tags are balanced, that runs nothing and fetches nothing.

    Attributes:
      text: what is to be read, with single spaces.
      rows: of all tables, as lists of texts.
      headings, images, ids: texts of h2, attributes of img, ids.
    """

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.rows, self.headings, self.images, self.ids, self.links = [], [], [], [], []
        self._open, self._parts = [], []
        content = path.read_text(encoding="utf-8")
        self.feed(content)
        self.close()
        assert self._open == [], f"never closed: {self._open}"
        assert content.startswith("<!DOCTYPE html>") and self.ids == sorted(set(self.ids), key=self.ids.index)
        assert all(link[1:] in self.ids for link in self.links)
        self.text = " ".join("".join(self._parts).split())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img":
            assert attributes["alt"].strip() and int(attributes["width"]) > 0
            self.images.append(attributes)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "h2":
            self.headings.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" in self._open:
            assert not re.search(r"@import|url\(|https?:", data)
            return
        self._parts.append(data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        if "h2" in self._open:
            self.headings[-1] += data
