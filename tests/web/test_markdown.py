"""A bundle's card becomes HTML that no policy has to stop."""

from __future__ import annotations

import pytest

from mmgcs.bundle import CARD_TEXT, DEFAULT_BUNDLE, Bundle
from mmgcs.web.markdown import to_html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "[press](javascript:alert(1))",
        "[press](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](javascript:alert(1))",
        "| a |\n|--:|\n| <b onclick=x>1</b> |",
    ],
)
def test_markup_and_links_that_act_stay_text(text: str) -> None:
    made = to_html(text)
    assert "<script" not in made
    assert "<img" not in made
    assert "<b" not in made
    assert 'href="javascript' not in made
    assert "href=" not in made
    assert "style=" not in made


def test_headings_stand_below_the_pages_and_tables_can_be_scrolled_with_keys() -> None:
    made = to_html("# One\n\n##### Five\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n")
    assert "<h3>One</h3>" in made
    assert "<h6>Five</h6>" in made
    assert '<table class="scroll" tabindex="0">' in made
    assert '<td class="number">2</td>' in made


def test_the_default_bundles_card_is_shown_whole() -> None:
    text = Bundle(DEFAULT_BUNDLE).read(CARD_TEXT).decode()
    rules = [line for line in text.splitlines() if line.startswith("|---")]
    assert rules
    assert to_html(text).count("<table") == len(rules)
