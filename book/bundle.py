"""Leave the built book in one piece as well: a page to print, and a zip.

`print.html` holds every page in reading order, its links turned inward, for
any browser to print. The zip is the whole folder. Both take seconds, so
`make book` makes them. Run as a program, as `make pdf` does, this file prints
`print.html` with Chromium: a PDF with outline, links and page numbers, which
takes minutes.
"""

from __future__ import annotations

import hashlib
import html
import os
import posixpath
import re
import shutil
import sys
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "sparse-book"
EPOCH = (2026, 1, 1, 0, 0, 0)  # of every file in the zip: same book, same zip
PAGE_SECONDS = 1800
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
README = """Sparse Book, to be read without a network

Unpack the whole folder, then open index.html in a browser. Pages, pictures,
equations and widgets lie beside it. print.html is the book as one page, for
printing.
"""
# Names of pygments for words that have no colour of their own.
PLAIN = re.compile(
    r'<span class="(?:w|n|p|nn|nx|o)">([^<]*)</span>|<span></span>'
)
STATE = re.compile(
    r'<script type="application/vnd\.jupyter\.widget-state\+json">'
    r".*?</script>",
    re.DOTALL,
)
WIDGET = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(
    r"""(?P<name>\s(?:id|href|src|for|name|aria-labelledby|"""
    r"""aria-describedby)=)"(?P<value>[^"]*)\""""
)
TAG = re.compile(r"<[a-zA-Z][^<>]*>")
STYLES = re.compile(r'<link[^>]*rel="stylesheet"[^>]*>')
MATHJAX = """<script>window.MathJax = {
  options: {
    enableMenu: false,
    processHtmlClass: "tex2jax_process|mathjax_process|math|output_area",
  },
  svg: { fontCache: "none" },
};</script>"""
STYLE = """<style>
@page { margin: 16mm 14mm 18mm; }
@page { @bottom-center { content: counter(page); font: 9pt sans-serif; } }
@page :first { @bottom-center { content: none; } }
body.one-page .bd-article-container { margin: 0 auto; max-width: 820px; }
body.one-page .bd-main :is(.bd-content, .bd-article) { display: block; }
body.one-page .bd-main .bd-content .bd-article h1 { display: block; }
body.one-page .bd-article { break-before: page; overflow: visible; }
body.one-page .title { margin: 25vh 0; text-align: center; }
body.one-page nav.contents ol { list-style: none; padding-left: 1.5rem; }
body.one-page details.hide, body.one-page .headerlink { display: none; }
</style>"""


def slug(page: str) -> str:
    """Return the name by which a page is known within the one page."""
    return page.removeprefix("nbs/").replace("/", "--")


def article(page: str, text: str, pages: set[str]) -> str:
    """Return the article of a built page, with addresses for the one page.

    Args:
        page: name of the page, such as "nbs/linear/pursuit".
        text: its HTML.
        pages: names of all pages; links to them stay within.
    """
    start = text.index(">", text.index("<article")) + 1
    body = text[start : text.index("</article>", start)]
    folder = posixpath.dirname(page)

    def turn(match: re.Match[str]) -> str:
        name, value = match["name"], html.unescape(match["value"])
        kind = name.strip(" \t\n=")
        if kind in {"href", "src"}:
            value = inward(value)
        elif kind != "name":
            value = " ".join(f"{slug(page)}--{one}" for one in value.split())
        return f'{name}"{html.escape(value)}"'

    def inward(address: str) -> str:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            return address
        if not parts.path:
            return f"#{slug(page)}--{parts.fragment}"
        target = posixpath.normpath(posixpath.join(folder, parts.path))
        other = unquote(target).removesuffix(".html")
        if target.endswith(".html") and other in pages:
            anchor = f"--{parts.fragment}" if parts.fragment else ""
            return f"#{slug(other)}{anchor}"
        anchor = f"#{parts.fragment}" if parts.fragment else ""
        return target + anchor

    scripts = body.split("<script")  # what a script holds is not turned
    for n, part in enumerate(scripts):
        head, end, rest = part.rpartition("</script>") if n else ("", "", part)
        scripts[n] = (
            head + end + TAG.sub(lambda m: ADDRESS.sub(turn, m[0]), rest)
        )
    body = PLAIN.sub(r"\1", "<script".join(scripts))
    return f'<article class="bd-article" id="{slug(page)}">{body}</article>'


def title_of(text: str) -> str:
    """Return the title of a built page as plain text."""
    start = text.index(">", text.index("<h1")) + 1
    title = text[start : text.index("</h1>", start)]
    title = re.sub(r'<a class="headerlink".*?</a>', "", title)
    return html.unescape(re.sub(r"<[^>]*>", "", title)).strip()


def contents(root: Path, titles: dict[str, str]) -> str:
    """Return a list of the parts and pages of `_toc.yml`, with links."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))

    def items(chapters: list[dict[str, Any]]) -> str:
        lines = []
        for chapter in chapters:
            page = chapter["file"]
            link = f'<a href="#{slug(page)}">{html.escape(titles[page])}</a>'
            below = items(chapter.get("sections", []))
            lines.append(f"<li>{link}{below}</li>")
        return f"<ol>{''.join(lines)}</ol>" if lines else ""

    parts = [(None, toc.get("chapters", []))]
    parts += [(p.get("caption"), p["chapters"]) for p in toc.get("parts", [])]
    listed = "".join(
        (f"<p><strong>{html.escape(caption)}</strong></p>" if caption else "")
        + items(chapters)
        for caption, chapters in parts
    )
    return f'<nav class="contents" aria-label="Contents">{listed}</nav>'


def write_one_page(root: Path, site: Path, pages: list[str]) -> Path:
    """Write every page, in this order, into `print.html`; return its path."""
    texts = {
        page: (site / f"{page}.html").read_text(encoding="utf-8")
        for page in pages
    }
    known = set(pages)
    articles = [article(page, texts[page], known) for page in pages]
    titles = {page: title_of(text) for page, text in texts.items()}
    first = texts[pages[0]]
    head = [
        re.sub(r'href="(\.\./)*', 'href="', style)
        for style in STYLES.findall(first)
        if "togglebutton" not in style  # all is unfolded
    ]
    head += [STYLE, MATHJAX]
    for page, body in zip(pages, articles, strict=True):
        if WIDGET in body:
            head += STATE.findall(texts[page])
    scripts = ["vendor/tex-svg-full.js"]
    if any(WIDGET in body for body in articles):
        scripts = [
            "vendor/require.js",
            "widgets-config.js",
            "vendor/embed-amd.js",
            *scripts,
        ]
    head += [
        f"<script{' defer' if 'tex' in name else ''} "
        f'src="_static/{name}"></script>'
        for name in scripts
        if (site / "_static" / name).is_file()
    ]
    name = html.escape(titles[pages[0]])
    target = site / "print.html"
    target.write_text(
        f"""<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: one page, for printing</title>
{"".join(f"{line}{chr(10)}" for line in head)}</head>
<body class="one-page"><main class="bd-main"><div class="bd-content">
<div class="bd-article-container">
<p class="title" style="font-size: 3em">{name}</p>
{contents(root, titles)}
{chr(10).join(articles)}
</div></div></main></body>
</html>
""",
        encoding="utf-8",
    )
    return target


def chromium() -> str | None:
    """Return the path of a Chromium; the variable CHROMIUM decides if set."""
    if "CHROMIUM" in os.environ:
        return os.environ["CHROMIUM"] or None
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


def write_pdf(source: Path, target: Path, program: str) -> None:
    """Print a page with Chromium, equations and widgets drawn.

    Raises:
        RuntimeError: an equation that MathJax could not set.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        tab = browser.new_page(viewport={"width": 820, "height": 1100})
        tab.set_default_timeout(1000 * PAGE_SECONDS)
        tab.goto(source.as_uri())
        tab.evaluate("() => window.MathJax?.startup?.promise?.then(() => 1)")
        if tab.locator(f"script[type='{WIDGET}']").count():
            tab.wait_for_function(
                "kind => [...document.querySelectorAll("
                "`script[type='${kind}']`)].every(script => script.parentNode"
                ".querySelector('.sb-widget, .widget-subarea > *'))",
                arg=WIDGET,
            )
        if faults := tab.locator("mjx-merror, [data-mjx-error]").count():
            raise RuntimeError(f"{faults} equations could not be set")
        tab.pdf(
            path=target,
            format="A4",
            prefer_css_page_size=True,
            scale=0.8,
            print_background=True,
            tagged=True,
            outline=True,
        )
        browser.close()


def write_zip(site: Path, target: Path) -> None:
    """Pack a built book; the same book gives the same bytes."""

    def add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
        entry = zipfile.ZipInfo(f"{FOLDER}/{name}", EPOCH)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, content)

    part = target.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as archive:
        add(archive, "README.txt", README.encode())
        for name, path in files_of(site):
            add(archive, name, path.read_bytes())
    part.replace(target)


def files_of(site: Path) -> list[tuple[str, Path]]:
    """Return names and paths of what a reader needs, in order."""
    found = []
    for path in site.rglob("*"):
        name = path.relative_to(site).as_posix()
        if path.is_file() and not name.startswith("."):
            found.append((name, path))
    return sorted(found)


def digest_of(site: Path) -> str:
    """Return a digest of all that the bundle is made of."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name, path in files_of(site):
        if name != "print.html":
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def bundle(root: Path, site: Path, pages: list[str]) -> None:
    """Write print.html into a built book, and the zip beside it.

    Does nothing if the book is as it was.
    """
    start, build = time.monotonic(), site.parent
    stamp, archive = build / "bundle.stamp", build / f"{FOLDER}.zip"
    digest = digest_of(site)
    if (
        archive.is_file()
        and (site / "print.html").is_file()
        and stamp.is_file()
        and stamp.read_text(encoding="ascii") == digest
    ):
        return
    stamp.unlink(missing_ok=True)
    page = write_one_page(root, site, pages)
    write_zip(site, archive)
    stamp.write_text(digest, encoding="ascii")
    print(
        f"Bundled {archive.name}, and {page.name} for printing, "
        f"in {time.monotonic() - start:.0f} s."
    )


def main() -> int:
    """Print the built book's one page as a PDF; return the exit status."""
    source = ROOT / "_build" / "html" / "print.html"
    target = ROOT / "_build" / f"{FOLDER}.pdf"
    if not source.is_file():
        print("There is no book yet: run make book.")
        return 1
    program = chromium()
    if program is None:
        print("No Chromium was found (variable CHROMIUM). Print the page")
        print(f"{source.relative_to(ROOT)} from any browser instead.")
        return 1
    print("Printing the whole book takes minutes and some GB of memory.")
    write_pdf(source, target, program)
    print(f"Wrote {target.relative_to(ROOT)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
