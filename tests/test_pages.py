"""Every built page: whole, quiet, readable, with links that lead somewhere."""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from conftest import HTML, ROOT, SCREENS

sys.path.insert(0, str(ROOT / "book"))
from build import listed_pages

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGES = listed_pages()
# Looked at whole, with what is alike on every page: bars, code, equations.
WHOLE = {"nbs/index", "nbs/linear/thresholding", "nbs/measures/metrics"}
GENERATED = ("genindex", "prf-prf", "search")
WIDGET_KIND = "application/vnd.jupyter.widget-view+json"
SCHEMES = {"http", "https", "mailto"}


class Links(HTMLParser):
    """The targets and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        values = dict(attrs)
        self.targets.update(
            value
            for name in ("id", "name")
            if (value := values.get(name)) is not None
        )
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if tag in {"script", "img", "iframe"} and values.get("src"):
            self.loads.append(str(values["src"]))
        if tag == "link" and values.get("rel") == "stylesheet":
            self.loads.append(str(values["href"]))
        if tag == "img":
            self.images.append(values)


def text_of(name: str) -> str:
    return (HTML / f"{name}.html").read_text(encoding="utf-8")


@cache
def links_of(path: Path) -> Links:
    return Links(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    path = HTML / f"{name}.html"
    assert path.is_file(), "run make book"
    page = links_of(path)
    lost = []
    for link in page.links + page.loads:
        parts = urlsplit(link)
        if parts.scheme in SCHEMES and link in page.links:
            continue
        if parts.scheme in {"data", "javascript"}:
            continue
        assert not parts.scheme and not parts.netloc, f"loads from {link}"
        target = (path.parent / unquote(parts.path)).resolve()
        target = path if not parts.path else target
        anchor = unquote(parts.fragment)
        if not target.exists() or (
            anchor
            and target.suffix == ".html"
            and anchor not in links_of(target).targets
        ):
            lost.append(link)
    assert not lost


@pytest.mark.parametrize("name", PAGES)
def test_pictures_have_words(name: str) -> None:
    for image in links_of(HTML / f"{name}.html").images:
        assert image.get("alt") is not None, image.get("src")
        if "_images/" in (image.get("src") or ""):
            assert len(str(image["alt"])) > 20, image["src"]


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_tables(name: str) -> None:
    """A rule that Markdown does not understand leaves a table as text."""
    words = re.sub(r"(?s)<(pre|script)\b.*?</\1>", "", text_of(name))
    assert not re.search(r"(?m)^\|[\s|:\u2013\u2014-]+\|$", words)


def test_no_other_scripts_than_those_that_lie_beside() -> None:
    """A page opened from a file must find each script below the book."""
    for name in PAGES:
        path = HTML / f"{name}.html"
        for load in links_of(path).loads:
            local = urlsplit(load).path
            assert (
                (path.parent / unquote(local))
                .resolve()
                .is_relative_to(HTML.resolve())
            )


# Takes out of an article what axe need not look at: formulas and code, which
# are alike on every page and looked at on those of WHOLE, and every part that
# repeats an earlier one: same place, same tags, same classes, styles and
# roles, the same attributes present and empty, words in the same places.
# Cells and entries stay, for a row or a list without one would be another.
LIGHTEN = """() => {
  const closed = "mjx-container, .highlight";
  const article = document.querySelector("article");
  article.querySelectorAll(closed).forEach(part => part.replaceChildren());
  const telling = new Set(["class", "style", "role", "type"]);
  const named = new Set();
  for (const name of ["aria-labelledby", "aria-describedby", "for"])
    for (const e of article.querySelectorAll(`[${name}]`))
      e.getAttribute(name).split(" ").forEach(id => named.add(id));
  const tells = a =>
    telling.has(a.name) || a.name === "id" && named.has(a.value);
  const kind = e => e.tagName + [...e.attributes]
    .map(a => `${a.name}=${tells(a) ? a.value : !!a.value}`).sort();
  const content = e => `${kind(e)}(${[...e.childNodes].map(
    n => n.nodeType === 1 ? content(n) : n.textContent.trim() && "words"
  ).filter(Boolean)})`;
  const seen = new Set();
  const walk = (e, place) => {
    const whole = `${place}<${content(e)}`;
    const needed = e.matches("td, th, dt, dd, label, option");
    if (seen.has(whole) && !needed) e.remove();
    else if (!e.matches(`svg, ${closed}`)) {
      seen.add(whole);
      const inside = `${place}<${kind(e)}`;
      [...e.children].forEach(child => walk(child, inside));
    }
  };
  walk(article, "");
}"""


# The theme lets keys reach what scrolls 300 ms after a page got another width;
# a timer set later, and for longer, rings after the theme's.
SETTLED = """() => new Promise(done =>
  requestAnimationFrame(() =>
    requestAnimationFrame(() => setTimeout(done, 350))))"""


def turn(page: Page, screen: str) -> None:
    """Give an open page another screen, as its reader would."""
    shape = SCREENS[screen]
    page.set_viewport_size(shape["viewport"])
    theme = shape.get("color_scheme", "light")
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(
        "theme => document.documentElement.dataset.theme === theme", arg=theme
    )
    # Colours of buttons fade from one theme to the other; readers see the end.
    page.evaluate(
        "document.getAnimations().filter(a => a instanceof CSSTransition)"
        ".forEach(a => a.finish())"
    )


def faults_for_readers(page: Page, screen: str, place: str) -> list[str]:
    """Return what axe finds serious or critical: rule, place, why.

    By day every rule is checked; at night, what depends on colours; on a
    phone, whether what scrolls there can be scrolled by keys.
    """
    from axe_playwright_python.sync_playwright import Axe

    # Without `preload` axe asks for no style sheet again, which a page from
    # a file may not do.
    options: dict = {"resultTypes": ["violations"], "preload": False}
    if screen != "light":
        rules = ["color-contrast", "link-in-text-block"]
        if screen == "phone":
            page.evaluate(SETTLED)
            rules = ["scrollable-region-focusable"]
        options["runOnly"] = {"type": "rule", "values": rules}
    found = Axe().run(page, place, options).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}) at {node['target']} by {screen}: "
        f"{node['failureSummary']}"
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]


@pytest.mark.screens("light")
@pytest.mark.parametrize("name", PAGES)
def test_page_in_a_browser(page_of, name: str) -> None:
    """Opened once, then turned: by day, at night, on a phone."""
    page = page_of(name)
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    text = page.locator("article").inner_text()
    assert "#|" not in text and "nbdev_export" not in text
    assert "Traceback" not in text
    for screen in SCREENS:
        turn(page, screen)
        wide = page.evaluate(
            "document.documentElement.scrollWidth - window.innerWidth"
        )
        assert wide <= 0, f"{wide} pixels wider than the {screen} screen"
    place = "html" if name in WHOLE else "article"
    if name not in WHOLE:
        page.evaluate(LIGHTEN)
    for screen in SCREENS:
        turn(page, screen)
        assert not faults_for_readers(page, screen, place)


@pytest.mark.screens("light")
@pytest.mark.parametrize("name", GENERATED)
def test_generated_page_is_accessible(page_of, name: str) -> None:
    page = page_of(name)
    for screen in SCREENS:
        turn(page, screen)
        assert not faults_for_readers(page, screen, "html")


@pytest.mark.parametrize("name", PAGES)
def test_names_within_a_page_are_unique(name: str) -> None:
    text = re.sub(r"(?s)<script.*?</script>", "", text_of(name))
    names = Counter(re.findall(r'<[^<>]*\sid="([^"]*)"', text))
    assert not [each for each, count in names.items() if count > 1]


@pytest.mark.screens("dark")
def test_paper_is_light_and_whole(page_of) -> None:
    """On paper: no bars, day's colours, solutions shown, nothing cut."""
    page = page_of("nbs/linear/pursuit")
    page.emulate_media(media="print")
    page.wait_for_function(
        "document.documentElement.dataset.theme === 'light'"
    )
    for furniture in (".bd-sidebar-primary", ".prev-next-footer", ".copybtn"):
        assert not page.locator(furniture).first.is_visible()
    assert page.locator(".solution p").last.is_visible()
    cut = page.evaluate(
        """[...document.querySelectorAll(
            ".bd-content :is(div.math, pre, .text_html, article)")]
        .filter(e => e.checkVisibility()
            && getComputedStyle(e).overflowX !== "visible"
            && e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML)"""
    )
    assert not cut
    page.emulate_media(media="screen")
    page.wait_for_function(
        "theme => document.documentElement.dataset.theme === theme",
        arg="dark",
    )


@pytest.mark.screens("light")
def test_search_works_from_a_file(page_of) -> None:
    page = page_of("nbs/glossary")
    page.goto((HTML / "search.html").as_uri() + "?q=sparse")
    page.wait_for_selector("#search-results li")
    assert page.locator("#search-results li a").count() > 1


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The built book behind a small server on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(HTML))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_pages_over_http(browser, served: str) -> None:
    context = browser.new_context()
    outside: list[str] = []
    errors: list[str] = []

    def guard(route) -> None:
        if route.request.url.startswith((served, "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    def note(message) -> None:
        if message.type == "error":
            errors.append(f"{tab.url}: {message.text}")

    context.route("**/*", guard)
    tab = context.new_page()
    tab.on("console", note)
    for name in PAGES:
        # Other pages load nothing that a file does not.
        if name != "nbs/index" and WIDGET_KIND not in text_of(name):
            continue
        tab.goto(f"{served}/{name}.html")
        tab.wait_for_selector(".sb-widget")
    tab.goto(f"{served}/search.html?q=sparse")
    tab.wait_for_selector("#search-results li .context")
    context.close()
    assert not outside and not errors
