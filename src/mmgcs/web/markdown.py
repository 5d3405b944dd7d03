"""Markdown as HTML that stands within a page: no HTML of the text's own, no inline style, headings below the page's."""

from __future__ import annotations

from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

_BELOW = 2
"""How many levels the text's headings are lowered: the page and the section have the first two."""


@lru_cache(maxsize=4)
def to_html(text: str) -> str:
    """CommonMark and tables as HTML. HTML in the text is shown as text; links lead to http, https and mailto only.

    >>> to_html("# Card <b>")
    '<h3>Card &lt;b&gt;</h3>\\n'
    """
    # The preset is made for text of strangers, and a bundle may come from one.
    parser = MarkdownIt("js-default")
    tokens = parser.parse(text)
    for token in tokens:
        _fit(token)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _fit(token: Token) -> None:
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(6, int(token.tag[1:]) + _BELOW)}"
    style = token.attrs.pop("style", None)  # the pages' policy allows none
    if style == "text-align:right":
        token.attrs["class"] = "number"
    if token.type == "table_open":
        # A focus for whoever scrolls with keys.
        token.attrs.update({"class": "scroll", "tabindex": 0})
