"""The book in one piece: a page to print, a PDF, a zip that opens offline."""

from __future__ import annotations

import re
import sys
import zipfile
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
PDF = HTML.parent / "sparse-book.pdf"
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


def test_without_chromium_and_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pages = small_site(tmp_path)
    monkeypatch.setenv("CHROMIUM", "")
    bundle.bundle(tmp_path, tmp_path / "site", pages)
    said = capsys.readouterr().out
    assert "No PDF" in said and "print.html" in said
    assert (tmp_path / "sparse-book.zip").is_file()
    bundle.bundle(tmp_path, tmp_path / "site", pages)
    assert not capsys.readouterr().out, "nothing had changed"
    page = tmp_path / "site" / "nbs" / "part" / "two.html"
    page.write_text(page.read_text().replace("far", "farther"))
    bundle.bundle(tmp_path, tmp_path / "site", pages)
    assert "Bundled sparse-book.zip" in capsys.readouterr().out
    assert "farther" in (tmp_path / "site" / "print.html").read_text()


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
def test_pdf_holds_every_page_in_order() -> None:
    from pypdf import PdfReader

    with PdfReader(PDF) as reader:
        listed = [
            str(entry.title)
            for entry in reader.outline[0:]
            if not isinstance(entry, list)
        ]
        words = [page.extract_text() for page in reader.pages]
        images = sum(
            any("/Image" in str(o.get("/Subtype")) for o in objects)
            for page in reader.pages
            if (objects := images_of(page))
        )
    titles = [
        bundle.title_of((HTML / f"{p}.html").read_text(encoding="utf-8"))
        for p in PAGES
    ]
    flat = [re.sub(r"\s+", " ", title) for title in listed]
    assert [title for title in flat if title in set(titles)] == titles
    place = 0
    for title in titles:
        place = next(
            n
            for n, text in enumerate(words)
            if n >= place
            and re.sub(r"\s", "", title) in re.sub(r"\s", "", text)
        )
    assert images > 50
    assert not any("Math input error" in text for text in words)


def images_of(page) -> list:  # type: ignore[no-untyped-def,type-arg]
    """Return the objects that a page of a PDF draws."""
    found = page["/Resources"].get("/XObject")
    return (
        [o.get_object() for o in found.get_object().values()] if found else []
    )
