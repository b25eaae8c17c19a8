"""Sphinx extension: nbdev notebooks as pages that need no network.

What nbdev says in `#|` directives is said again in the cell tags that myst-nb
knows; every exported function or class becomes a target, so that
`` {py:func}`~sparse_book.measures.sparsity.gini` `` leads to the cell that
defines it; a hidden first cell names the state of the library code that the
page imports, so that the execution cache notices edits of the library; the
`api-reference` directive lists everything exported, from its docstrings, whose
labels of equations lead to the equations, as a line below each equation leads
to the functions; and Sphinx is pointed at the vendored scripts.
"""

from __future__ import annotations

import ast
import configparser
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

PACKAGE = "sparse_book"
ROOT = Path(__file__).resolve().parent.parent.parent
ASSETS = ROOT / "book" / "assets"
SCRIPTS = ("vendor/require.js", "widgets-config.js", "vendor/embed-amd.js")
DIRECTIVE = re.compile(r"\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$")
OFF = {"false", "no", "0"}
INSTALL = "install"  # the id of the cell that installs the library
RESERVED = re.compile(r"(^|\.)(example(\.\w+)?|test|invalid|localhost)$")
LAUNCHERS = {
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
    "notebook_interface": "jupyterlab",
}


# Directives become tags.


def split_directives(source: str) -> tuple[dict[str, str], str]:
    """Return a cell's leading `#|` lines as a dict, and the rest of it."""
    found: dict[str, str] = {}
    lines = source.splitlines(keepends=True)
    for n, line in enumerate(lines):
        if match := DIRECTIVE.match(line):
            found[match[1]] = match[2]
        elif line.strip():
            return found, "".join(lines[n:])
    return found, ""


def tags_for(directives: dict[str, str], body: str) -> list[str]:
    """Return the cell tags that mean what these directives mean."""
    off = {name for name, value in directives.items() if value.lower() in OFF}
    on = set(directives) - off
    rules = {
        "remove-cell": not body.strip()
        or bool(on & {"hide", "default_exp"})
        or "include" in off,
        "skip-execution": "eval" in off or "nbdev_export(" in body,
        "remove-input": "hide_input" in on or "echo" in off,
        "remove-output": "hide_output" in on or "output" in off,
        "hide-input": bool(on & {"code-fold", "exporti"}),
    }
    return [tag for tag, wanted in rules.items() if wanted]


def public_names(source: str) -> list[tuple[str, str]]:
    """Return (kind, name) of the public functions and classes of a source."""
    kinds = {ast.FunctionDef: "function", ast.ClassDef: "class"}
    return list(
        dict.fromkeys(  # an overloaded function is defined more than once
            (kinds[type(node)], node.name)
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
        )
    )


def _targets(names: list[tuple[str, str]], module: str) -> str:
    return "\n".join(
        f"```{{py:{kind}}} {name}\n:module: {PACKAGE}.{module}\n"
        ":no-typesetting:\n```\n"
        for kind, name in names
    )


def convert(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook with directives as tags and exports as targets."""
    cells: list[dict[str, Any]] = [_state_cell(notebook)]
    module, known = "", set()
    for cell in notebook["cells"]:
        if cell.get("id") == INSTALL:
            continue  # for those who launch the notebook elsewhere
        if cell["cell_type"] == "code":
            directives, body = split_directives("".join(cell["source"]))
            module = directives.get("default_exp") or module
            names = []
            if "export" in directives:
                names = [n for n in public_names(body) if n not in known]
                known.update(names)
            if names:
                cells.append(
                    {
                        "cell_type": "markdown",
                        "id": f"{cell['id']}-target",
                        "metadata": {},
                        "source": _targets(names, module),
                    }
                )
            cell["source"] = body
            tags = cell["metadata"].setdefault("tags", [])
            tags += [t for t in tags_for(directives, body) if t not in tags]
        cells.append(cell)
    return notebook | {"cells": cells}


# Pages depend on the library they import.


def _imported(source: str) -> Iterator[str]:
    """Yield the dotted names below the package that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)


def _library_files(sources: list[str]) -> set[Path]:
    """Return the files of the library that sources import, at any remove."""
    found: set[Path] = set()
    while sources:
        for name in _imported(sources.pop()):
            path = ROOT / (name.replace(".", "/") + ".py")
            ours = name.startswith(f"{PACKAGE}.") and path.is_file()
            if ours and path not in found:
                found.add(path)
                sources.append(path.read_text(encoding="utf-8"))
    beside = {  # scripts and styles: the module's own, and the shared ones
        other
        for path in found
        if path.parent.name == "show"
        for other in path.parent.iterdir()
        if other.suffix in {".js", ".css", ".mplstyle"}
        and other.stem in {path.stem, "common", "book"}
    }
    return found | beside


def _family(path: Path) -> str:
    """Return the word by which code speaks of a file below `results/`."""
    folder = path.parent.name
    name = path.stem if folder == "studies" else folder
    return re.split(r"[-_]", name)[0]


def library_state(notebook: dict[str, Any]) -> str:
    """Return a digest of all that a page's outputs rest on beside its text.

    That is the library files which it imports, the pinned versions, and, if
    the page speaks of `results/`, the measured rows of every family that it
    or those files name: `thesis` for `results/studies/thesis-relu-1.csv`,
    `beats` for `results/beats/beats.csv`.
    """
    code = [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and cell.get("id") != INSTALL
    ]
    bodies = [split_directives(text)[1] for text in code]
    plain = [re.sub(r"^[%!].*$", "", body, flags=re.M) for body in bodies]
    files = _library_files(plain) | {ROOT / "constraints.txt"}
    if any("results" in body for body in bodies):
        texts = [
            *bodies,
            *(path.read_text(encoding="utf-8") for path in files),
        ]
        words = set(re.findall(r"[a-z]+", "\n".join(texts).lower()))
        measured = (ROOT / "results").rglob("*.[cn][sp][vz]")  # csv, npz
        files |= {path for path in measured if _family(path) in words}
    digest = hashlib.sha256()
    for path in sorted(files):
        name = path.relative_to(ROOT).as_posix()
        digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _state_cell(notebook: dict[str, Any]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": "library-state",
        "metadata": {"tags": ["remove-cell"]},
        "outputs": [],
        "source": f"# library {library_state(notebook)}",
    }


def _on_source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = convert(json.loads(source[0]))
    states = _states(app.env)
    states[docname] = notebook["cells"][0]["source"]
    source[0] = json.dumps(notebook)


def _states(env: BuildEnvironment) -> dict[str, str]:
    if not hasattr(env, "library_states"):
        env.library_states = {}
    states: dict[str, str] = env.library_states
    return states


def _outdated(
    app: Sphinx,
    env: BuildEnvironment,
    added: set[str],
    changed: set[str],
    removed: set[str],
) -> list[str]:
    """Name the pages whose text is as it was but whose library is not."""
    stale = []
    for docname, state in _states(env).items():
        path = Path(env.doc2path(docname))
        if path.is_file() and docname not in removed:
            now = _state_cell(json.loads(path.read_text(encoding="utf-8")))
            if now["source"] != state:
                stale.append(docname)
    return stale + sorted(_moved_equations(env) - removed)


# The reference: every exported name, from its docstring.


class ApiReference(SphinxDirective):
    """List what the notebooks below `nbs/` export, module by module."""

    def run(self) -> list[nodes.Node]:
        """Generate reStructuredText for autodoc and parse it."""
        lines = StringList()
        for path in sorted((ROOT / PACKAGE).rglob("*.py")):
            if path.name.startswith("_"):
                continue
            self.env.note_dependency(str(path))
            names = public_names(path.read_text(encoding="utf-8"))
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            page = "/".join(path.relative_to(ROOT).with_suffix("").parts[1:])
            if not names:
                continue
            title = f"``{module}``"
            text = [title, "-" * len(title), "", f".. module:: {module}"]
            text += ["   :no-index:", "", f"The page: :doc:`{page}`.", ""]
            for kind, name in names:
                text += [f".. auto{kind}:: {module}.{name}", "   :no-index:"]
                text += ["   :members:"] if kind == "class" else []
                text += [""]
            for number, line in enumerate(text):
                lines.append(line, module, number)
        container = nodes.section()
        container.document = self.state.document
        nested_parse_with_titles(self.state, lines, container)
        return container.children


LABEL = re.compile(r"(?<![\w`-])(eq|def|alg|prop|thm|fig)-[a-z][\w-]*\w")
ROLES = {"eq": "eq", "fig": "numref"}


def _link_labels(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: Any,
    lines: list[str],
) -> None:
    """Turn labels such as eq-gini into links; let |a| be a magnitude."""
    for n, line in enumerate(lines):
        parts = line.split("`")  # every other part is code
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[n] = LABEL.sub(
            lambda m: f":{ROLES.get(m[1], 'prf:ref')}:`{m[0]}`",
            "`".join(parts),
        )


def _skip_inherited(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: Any
) -> bool | None:
    """Leave out members without a docstring of this library's own."""
    getter = getattr(obj, "fget", None) or obj  # a property has no module
    module = getattr(getter, "__module__", "") or ""
    return None if module.startswith(PACKAGE) else True


# Every equation leads to the functions that compute it.


def equation_functions() -> dict[str, list[tuple[str, str]]]:
    """Return, for each label in a docstring, (kind, name) of who names it.

    Only exported functions and classes count, since they alone are targets;
    what a method says counts for its class.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        if path.name.startswith("_"):
            continue
        text = path.read_text(encoding="utf-8")
        kinds = {name: kind for kind, name in public_names(text)}
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(text).body:
            name = getattr(node, "name", "")
            if name not in kinds:
                continue
            entry = (kinds[name], f"{module}.{name}")
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef | ast.ClassDef):
                    words = ast.get_docstring(inner) or ""
                    for match in LABEL.finditer(words):
                        owners = found.setdefault(match[0], [])
                        if match[1] == "eq" and entry not in owners:
                            owners.append(entry)
    return {label: owners for label, owners in found.items() if owners}


def _moved_equations(env: BuildEnvironment) -> set[str]:
    """Name the pages with equations that other functions compute now."""
    before: dict[str, list[tuple[str, str]]]
    before = getattr(env, "equation_functions", {})
    now = equation_functions()
    env.equation_functions = now
    equations = env.get_domain("math").equations
    return {
        equations[label][0]
        for label in before.keys() | now.keys()
        if before.get(label) != now.get(label) and label in equations
    }


class LinkEquations(SphinxPostTransform):
    """Say below a labelled equation which functions compute it."""

    default_priority = 5  # before references are resolved
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Add a line of links, made from the functions' docstrings."""
        known = getattr(self.env, "equation_functions", {})
        for block in list(self.document.findall(nodes.math_block)):
            owners = known.get(block.get("label"))
            if owners:
                line = nodes.paragraph(classes=["computed-by"])
                line += nodes.Text("computed by ")
                for n, (kind, name) in enumerate(owners):
                    line += nodes.Text(", ") if n else nodes.Text("")
                    line += self.link(kind, name)
                place = block.parent.index(block) + 1
                block.parent.insert(place, line)

    def link(self, kind: str, name: str) -> addnodes.pending_xref:
        """Return a reference to the cell that defines a function."""
        role = "func" if kind == "function" else "class"
        short = name.rpartition(".")[2]
        return addnodes.pending_xref(
            "",
            nodes.literal("", short, classes=["xref", "py", f"py-{role}"]),
            refdomain="py",
            reftype=role,
            reftarget=name,
            refdoc=self.env.docname,
            refexplicit=True,
            refwarn=True,
        )


class DropNestedTransitions(SphinxTransform):
    """Markdown output may open with a rule, which docutils forbids there."""

    default_priority = 700  # before docutils checks transitions

    def apply(self, **kwargs: Any) -> None:
        """Remove transitions that stand outside of sections."""
        for node in list(self.document.findall(nodes.transition)):
            if not isinstance(node.parent, nodes.document | nodes.section):
                node.parent.remove(node)


class NumberSharedNames(SphinxTransform):
    """Boxes of proofs and exercises all bear one name: number them."""

    default_priority = 890  # when all boxes are there
    shared = ("proof-content", "exercise-content", "solution-content")

    def apply(self, **kwargs: Any) -> None:
        """Give each such section a name of its own."""
        sections = self.document.findall(nodes.section)
        boxes = [s for s in sections if set(s["ids"]) & set(self.shared)]
        for n, box in enumerate(boxes, 1):
            box["ids"] = [
                f"{name}-{n}" if name in self.shared else name
                for name in box["ids"]
            ]


def launch_options(settings: Path) -> dict[str, Any]:
    """Return the theme's options for buttons that launch a notebook.

    The address of the repository is `git_url` of settings.ini. A name that
    the standards reserve, such as example.org, stands for none: a button
    would lead nowhere. Colab opens what lies on GitHub only.
    """
    parser = configparser.ConfigParser()
    parser.read(settings, encoding="utf-8")
    given = parser["DEFAULT"]
    address = given.get("git_url", "")
    host = urlsplit(address).hostname or ""
    if not host or RESERVED.search(host):
        return {}
    buttons = dict(LAUNCHERS)
    if host != "github.com":
        del buttons["colab_url"]
    return {
        "repository_url": address,
        "repository_branch": given.get("branch", "main"),
        "path_to_docs": "",
        "launch_buttons": buttons,
    }


def _on_config(app: Sphinx, config: Config) -> None:
    import anywidget

    vendor = ASSETS / "vendor"  # anywidget's version must fit the state's
    runtime = Path(anywidget.__file__).parent / "nbextension" / "index.js"
    copy = vendor / "anywidget.js"
    if not copy.exists() or copy.read_bytes() != runtime.read_bytes():
        shutil.copyfile(runtime, copy)
    config.html_theme_options.update(launch_options(ROOT / "settings.ini"))
    config.html_static_path.append(str(ASSETS))
    config.html_css_files.append("book.css")
    config.html_js_files += ["offline.js", "reading.js"]
    config.mathjax_path = "vendor/tex-svg-full.js"
    config.nb_ipywidgets_js = {name: {} for name in SCRIPTS}


def _choose_scripts(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], _: Any
) -> None:
    """Leave out scripts that a page has no use for.

    Constants of sphinx-thebe are declared twice, an error in the console; a
    page that made widgets but shows none need not carry their state.
    """
    unwanted = ["thebe"]
    if "jupyter.widget-view" not in context.get("body", ""):
        unwanted += ["jupyter.widget-state", *SCRIPTS]

    def says(script: Any) -> str:
        parts = (getattr(script, "filename", ""), script.attributes)
        return "".join(map(str, parts)).lower()

    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if not any(name in says(script) for name in unwanted)
    ]


def _mend_roles(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], _: Any
) -> None:
    """Let the works of a list of references be items of that list."""
    if "body" in context:
        context["body"] = context["body"].replace(
            'role="doc-biblioentry"', 'role="listitem"'
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handlers."""
    app.add_transform(DropNestedTransitions)
    app.add_transform(NumberSharedNames)
    app.add_post_transform(LinkEquations)
    app.add_directive("api-reference", ApiReference)
    app.connect("source-read", _on_source_read)
    app.connect("env-get-outdated", _outdated)
    app.connect("config-inited", _on_config, priority=400)
    app.connect("html-page-context", _choose_scripts, priority=900)
    app.connect("html-page-context", _mend_roles, priority=900)
    app.connect("autodoc-process-docstring", _link_labels, priority=400)
    app.connect("autodoc-skip-member", _skip_inherited)
    return {
        "version": "1",
        "env_version": 3,
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
