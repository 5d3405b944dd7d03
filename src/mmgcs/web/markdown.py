"""Convert a model card's Markdown to HTML for use inside a page."""

from __future__ import annotations

from functools import lru_cache

from markdown_it import MarkdownIt


@lru_cache(maxsize=4)
def to_html(text: str) -> str:
    """Convert CommonMark and tables to HTML without markup of the text's own, inline styles, or high headings.

    >>> to_html("# Card <b>")
    '<h3>Card &lt;b&gt;</h3>\\n'
    """
    # This preset is made for text by strangers, and a bundle may come from one.
    parser = MarkdownIt("js-default")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + 2)}"  # the page and the section have the first two levels
        if token.attrs.pop("style", None) == "text-align:right":  # the Content-Security-Policy allows no style
            token.attrs["class"] = "number"
        if token.type == "table_open":
            token.attrs.update({"class": "scroll", "tabindex": 0})  # focusable, to scroll it with keys
    return str(parser.renderer.render(tokens, parser.options, {}))
