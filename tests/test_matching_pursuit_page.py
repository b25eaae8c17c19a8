"""The page "Matching pursuit" in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    Open = Callable[[str], Page]

PAGE = "nbs/linear/pursuit"


@pytest.mark.screens("light")
def test_the_page_is_whole(page_of: Open) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert page.locator("article figure img[alt]").count() == 5
    text = page.locator("article").inner_text()
    assert "nbdev_export" not in text and "#|" not in text
    assert page.locator(".exercise").count() == 5
    page.locator(".solution .toggle-button").first.click()
    page.get_by_text("is not impressed").wait_for(state="visible")
