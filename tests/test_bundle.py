"""The book in one piece: a page to print, a zip that opens offline, a PDF."""

from __future__ import annotations

import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import CHROMIUM, HTML, ROOT

sys.path.insert(0, str(ROOT / "book"))
import bundle
from build import listed_pages

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGES = listed_pages()
ZIP = HTML.parent / "sparse-book.zip"
PAGE = """<!DOCTYPE html><html><head>
<link rel="stylesheet" href="../../_static/book.css"></head><body>
<a href="elsewhere.html">furniture</a>
<article class="bd-article"><section id="one">
<h1>{title} &amp; more<a class="headerlink" href="#one">#</a></h1>
<p><a href="two.html#far">far</a> <a href="two.html">two</a>
<a href="#one">here</a> <a href="https://example.org/x.html#y">out</a>
<a href="../../genindex.html#z">index</a>
<img alt="of 1 &gt; 0" src="../../_images/a.png"></p>
<pre><span class="k">if</span><span class="w"> </span>\
<span class="n">x</span></pre>
<script>const text = '<a href="#one">';</script>
</section></article></body></html>"""


def small_site(folder: Path) -> list[str]:
    """Write two pages and their table of contents."""
    site = folder / "site"
    (site / "nbs" / "part").mkdir(parents=True)
    for name in ("one", "two"):
        text = PAGE.replace("{title}", name.title())
        (site / "nbs" / "part" / f"{name}.html").write_text(text)
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: nbs/part/one\nparts:\n"
        "- caption: A part\n  chapters:\n  - file: nbs/part/two\n"
    )
    return ["nbs/part/one", "nbs/part/two"]


def test_links_turn_inward(tmp_path: Path) -> None:
    pages = small_site(tmp_path)
    text = bundle.write_one_page(
        tmp_path, tmp_path / "site", pages
    ).read_text()
    one, two = text.split("<article")[1:]
    assert 'id="part--one"' in one and 'id="part--two"' in two
    for link in (
        '<a href="#part--two--far">far</a>',
        '<a href="#part--two">two</a>',
        '<a href="#part--one--one">here</a>',
        '<a href="https://example.org/x.html#y">out</a>',
        '<a href="genindex.html#z">index</a>',
        'src="_images/a.png"',
        """'<a href="#one">'""",
    ):
        assert link in one, link
    assert '<span class="k">if</span> x' in one
    assert 'href="_static/book.css"' in text and "furniture" not in text
    assert '<a href="#part--two">Two &amp; more</a>' in text
    assert text.index("A part") < text.index("<article")


def test_same_book_same_zip(tmp_path: Path) -> None:
    small_site(tmp_path)
    site = tmp_path / "site"
    (site / ".buildinfo").write_text("left out")
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    bundle.write_zip(site, one)
    for path in site.rglob("*.html"):
        path.touch()
    bundle.write_zip(site, two)
    assert one.read_bytes() == two.read_bytes()
    assert zipfile.ZipFile(one).namelist() == [
        "sparse-book/README.txt",
        "sparse-book/nbs/part/one.html",
        "sparse-book/nbs/part/two.html",
    ]


def test_made_again_only_when_something_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = small_site(tmp_path)
    bundle.bundle(tmp_path, tmp_path / "site", pages)
    assert "Bundled sparse-book.zip" in capsys.readouterr().out
    bundle.bundle(tmp_path, tmp_path / "site", pages)
    assert not capsys.readouterr().out, "nothing had changed"
    page = tmp_path / "site" / "nbs" / "part" / "two.html"
    page.write_text(page.read_text().replace("far", "farther"))
    bundle.bundle(tmp_path, tmp_path / "site", pages)
    assert "Bundled sparse-book.zip" in capsys.readouterr().out
    assert "farther" in (tmp_path / "site" / "print.html").read_text()


def test_no_pdf_without_a_book_or_a_browser(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    monkeypatch.setenv("CHROMIUM", "")
    assert bundle.main() == 1 and "make book" in capsys.readouterr().out
    (tmp_path / "_build" / "html").mkdir(parents=True)
    (tmp_path / "_build" / "html" / "print.html").write_text("a page")
    assert bundle.main() == 1
    assert "_build/html/print.html" in capsys.readouterr().out


def test_zip_opens_offline(browser: Browser, tmp_path: Path) -> None:
    """Unpacked in a fresh folder, with every request outside refused."""
    with zipfile.ZipFile(ZIP) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    folder = tmp_path / "sparse-book"
    context = browser.new_context(offline=True)
    outside: list[str] = []
    errors: list[str] = []

    def guard(route) -> None:  # type: ignore[no-untyped-def]
        if route.request.url.startswith((folder.as_uri(), "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    tab = context.new_page()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((folder / "index.html").as_uri())
    tab.wait_for_selector(".sb-pursuit")  # the landing page's widget
    tab.get_by_role("link", name="Linear codes").first.click()
    tab.wait_for_selector(".sb-atom-mixer")
    tab.wait_for_selector("mjx-container")
    context.close()
    assert not outside and not errors


def test_one_page_leads_nowhere_else() -> None:
    text = (HTML / "print.html").read_text(encoding="utf-8")
    text = re.sub(r"(?s)<script.*?</script>", "", text)
    names = re.findall(r'<[^<>]*\sid="([^"]*)"', text)
    assert len(names) == len(set(names))
    places = re.findall(r'<a[^<>]*\shref="([^"]*)"', text)
    lost = {p for p in places if p[0] == "#" and p[1:] not in set(names)}
    assert not lost
    images = re.findall(r'<img[^<>]*\ssrc="([^"]*)"', text)
    assert len(images) > len(PAGES)
    for image in images:
        assert image.startswith("data:") or (HTML / image).is_file(), image
    built = [(HTML / f"{p}.html").read_text(encoding="utf-8") for p in PAGES]
    for kind in ('class="math notranslate', "<img", "<table"):
        inside = sum(
            page[page.index("<article") : page.index("</article>")].count(kind)
            for page in built
        )
        assert text.count(kind) == inside > 0, kind


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_pdf_has_outline_links_and_pictures(tmp_path: Path) -> None:
    from PIL import Image
    from pypdf import PdfReader

    pages = small_site(tmp_path)
    site = tmp_path / "site"
    (site / "_images").mkdir()
    Image.new("RGB", (40, 40), "red").save(site / "_images" / "a.png")
    page = bundle.write_one_page(tmp_path, site, pages)
    # In a thread of its own: another test's browser may be open in this one.
    with ThreadPoolExecutor(1) as thread:
        target = tmp_path / "small.pdf"
        thread.submit(bundle.write_pdf, page, target, str(CHROMIUM)).result()
    with PdfReader(tmp_path / "small.pdf") as reader:
        assert [entry.title for entry in reader.outline] == [
            "One & more",
            "Two & more",
        ]
        words = [sheet.extract_text() for sheet in reader.pages]
        assert len(words) == 3 and "A part" in words[0]
        assert "One & more" in words[1] and "Two & more" in words[2]
        assert all(len(sheet.images) == 1 for sheet in reader.pages[1:])
        inner = [
            link
            for sheet in reader.pages
            for link in sheet.get("/Annots", [])
            if "/Dest" in link.get_object()
        ]
    assert len(inner) >= 5


def test_one_page_in_a_browser(browser: Browser) -> None:
    """All equations set, all pictures there, all widgets drawn."""
    tab = browser.new_page(viewport={"width": 820, "height": 1100})
    tab.set_default_timeout(600_000)
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((HTML / "print.html").as_uri())
    tab.evaluate("() => MathJax.startup.promise.then(() => 1)")
    assert tab.locator("mjx-merror, [data-mjx-error]").count() == 0
    counts = tab.evaluate(
        """() => [document.querySelectorAll("mjx-container").length,
            document.querySelectorAll("span.math, div.math").length,
            [...document.images].filter(i => !i.naturalWidth).length,
            document.querySelectorAll("script[type*=widget-view]").length]"""
    )
    set_equations, equations, lost, widgets = counts
    assert set_equations >= equations > 1000 and lost == 0
    tab.wait_for_function(
        "n => document.querySelectorAll('.sb-widget').length === n",
        arg=widgets,
    )
    tab.close()
    assert not errors
