"""Every widget by keyboard alone: each control reached, each one answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from conftest import HTML, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import ElementHandle, Page

# A page for every script of a widget, and the part of the page that it fills.
WIDGETS = {
    "atom_mixer": ("nbs/linear/dictionaries", ".sb-atom-mixer"),
    "basis_pursuit": ("nbs/linear/basis_pursuit", ".sb-lasso"),
    "descent": ("nbs/training/yardsticks", ".sb-descent"),
    "feature_maps": ("nbs/networks/convolutional", ".sb-feature-maps"),
    "field_fitter": ("nbs/linear/receptive_fields", ".sb-field-fitter"),
    "firing": ("nbs/training/activity_penalty", ".sb-firing"),
    "kernel": ("nbs/networks/convolution", ".sb-kernel"),
    "lp_balls": ("nbs/linear/shrinkage", ".sb-balls"),
    "neural_codes": ("nbs/linear/neural_codes", ".sb-neural-codes"),
    "penalty_paths": ("nbs/training/penalty_flow", ".sb-penalty-paths"),
    "pursuit": ("nbs/linear/pursuit", ".sb-pursuit"),
    "rate_distortion": (
        "nbs/measures/description_length",
        ".sb-rate-distortion",
    ),
    "rebuilding": ("nbs/networks/autoencoder", ".sb-rebuilding"),
    "sparse_activations": ("nbs/san/activations", ".sb-activations"),
    "sparsity_bars": ("nbs/measures/sparsity", ".sb-bars"),
}
SHARED = {"common", "stored_networks"}  # scripts of no widget of their own
# Tried in turn: one that has an effect is enough.
KEYS = ("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown", "Home", "End")
KEYS += ("Space", "Enter")
# What a reader sees: words, drawings, the pixels of pictures, and choices.
SEEN = """root => root.innerHTML
  + [...root.querySelectorAll("canvas")].map(c => c.toDataURL()).join()
  + [...root.querySelectorAll("input, select")]
      .map(i => i.value + i.checked).join()"""
STOPS = """root => [...root.querySelectorAll(
    "button, input, select, textarea, a[href], [tabindex='0']")]
  .filter(e => !e.disabled && e.checkVisibility())
  .map(e => e.type === "radio" ? `radio ${e.name}` : e)
  .filter((e, n, all) => all.indexOf(e) === n).length"""
INSIDE = "root => root.contains(document.activeElement)"


def test_every_widget_has_its_page() -> None:
    scripts = {
        path.stem for path in (ROOT / "sparse_book" / "show").glob("*.js")
    }
    assert scripts == set(WIDGETS) | SHARED


def stops(page: Page, widget: ElementHandle) -> Iterator[str]:
    """Walk through a widget by the Tab key; name each place, once there."""
    widget.evaluate(
        """root => {
          const before = document.createElement("span");
          before.tabIndex = -1;
          root.before(before);
          before.focus();
        }"""
    )
    page.keyboard.press("Tab")
    while widget.evaluate(INSIDE):
        yield page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        page.keyboard.press("Tab")


def effect(page: Page, widget: ElementHandle) -> str:
    """Return the first key that changes what is seen, or ''."""
    for key in KEYS:
        before = widget.evaluate(SEEN)
        page.keyboard.press(key)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        if widget.evaluate(SEEN) != before:
            return key
    return ""


@pytest.mark.screens("light")
@pytest.mark.parametrize("name", WIDGETS)
def test_driven_by_keyboard(page_of: Callable[[str], Page], name: str) -> None:
    place, selector = WIDGETS[name]
    if not (HTML / f"{place}.html").is_file():
        pytest.fail(f"{place} is not built: run make book")
    page = page_of(place)
    widget = page.wait_for_selector(selector)
    assert widget is not None
    before = widget.evaluate(STOPS)
    reached = 0
    mute = []
    for stop in stops(page, widget):
        reached += 1
        # A table that scrolls and a button that says it has nothing to do
        # are places to go to, and change nothing.
        idle = "sb-table" in stop or 'aria-disabled="true"' in stop
        if not idle and not effect(page, widget):
            mute.append(stop)
        assert widget.evaluate(INSIDE), f"focus was lost after {stop}"
        assert reached < 60, "the Tab key does not leave"
    # A button that chooses what is shown already changes something now.
    for stop in stops(page, widget):
        if stop in mute and effect(page, widget):
            mute.remove(stop)
    assert not mute, "no key changes anything here"
    # Keys may have switched controls on or off on the way.
    assert 0 < min(before, widget.evaluate(STOPS)) <= reached
