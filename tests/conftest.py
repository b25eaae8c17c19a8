"""What the tests share: hypothesis's profile, the data, pages in a browser."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Two workers share the machine: threads of one would slow the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
SCREENS = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {
        "viewport": {"width": 1280, "height": 900},
        "color_scheme": "dark",
    },
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "has_touch": True,
    },
}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# A shell that starts the tests in the background has them ignore Ctrl-C, and
# so the programs that they start: those that a test interrupts must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no complaints of a busy machine.
settings.register_profile("book", deadline=None, derandomize=True)
settings.load_profile("book")

# Real data, where they lie beside the project and nothing else is said.
BESIDE = ROOT.parent / "shared" / "data"
if BESIDE.is_dir():
    os.environ.setdefault("SPARSE_BOOK_DATA", str(BESIDE))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, or a visible skip."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (variable CHROMIUM)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its screens.

    Those of its mark `screens`, or else by day and on a phone: at night only
    colours differ, and test_pages looks at the colours of every page.
    """
    if "screen" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("screens")
        names = mark.args if mark else ("light", "phone")
        metafunc.parametrize("screen", names)


@pytest.fixture
def screen() -> str:
    """The name of a kind of screen, one for a test that names none."""
    return "light"


@pytest.fixture
def page_of(browser: Browser, screen: str) -> Iterator[Callable[[str], Page]]:
    """Open a built page from its file; outside requests and errors fail."""
    context = browser.new_context(**SCREENS[screen])
    context.set_default_timeout(120_000)  # the machine may be busy
    outside: list[str] = []
    errors: list[str] = []

    def guard(route) -> None:  # type: ignore[no-untyped-def]
        url = route.request.url
        if url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            outside.append(url)
            route.abort()

    def note(message) -> None:  # type: ignore[no-untyped-def]
        if message.type == "error":
            errors.append(message.text)

    context.route("**/*", guard)

    def open_page(name: str) -> Page:
        path = HTML / f"{name}.html"
        if not path.is_file():
            pytest.fail(f"{name} is not built: run make book")
        tab = context.new_page()
        tab.on("console", note)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(path.as_uri())
        tab.wait_for_function(
            "() => !document.querySelector('script[src*=mathjax], "
            "script[src*=tex-svg]') || (window.MathJax?.startup?.promise "
            "&& MathJax.startup.promise.then(() => true))"
        )
        state = "script[type='application/vnd.jupyter.widget-view+json']"
        if tab.locator(state).count():
            tab.wait_for_selector(".sb-widget, .widget-subarea > *")
        return tab

    yield open_page
    context.close()
    assert not outside, f"the page asked for {outside}"
    assert not errors, f"the page wrote errors to the console: {errors}"
