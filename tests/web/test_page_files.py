"""The page's files, read without a browser: they import one another, all are served, and modules keep no state."""

from __future__ import annotations

import re

import pytest

from realtime.web.server import PAGE

IMPORT = re.compile(r"""^(?:import|export)\b[^'"]*?\bfrom\s*'([^']+)'|\bimport\s*\(?\s*'([^']+)'""", re.MULTILINE)
NAMED_IMPORT = re.compile(r"^import \{([^}]*)\} from '\./([^']+)';$", re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.MULTILINE)
# What keeps something changeable: `let`, `var` and `static` wherever it lasts, a constant that can be filled, another's
# property. What is indented lies in a block, and ends with it.
KEPT = re.compile(
    r"^(?:export )?(?:(?:let|var)\b|const \w+ = (?:\[\]|\{\}|new \w+\([^()]*\));).*|^\s+(?:var|static) .*|^[\w.]+ = .*",
    re.MULTILINE,
)


def state_kept_by(module: str) -> list[str]:
    """Lines of a module's text by which something changeable outlives a call."""
    return KEPT.findall(module)


def modules() -> dict[str, str]:
    """Path of the request -> text of every script of the page, without the comments (types are imported there, too)."""
    scripts = {path: file.read_text() for path, file in PAGE.items() if file.suffix == ".js"}
    return {path: re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL) for path, text in scripts.items()}


def test_every_import_of_the_page_is_served_and_no_file_is_left_over() -> None:
    document, texts = PAGE["/"].read_text(), modules()
    scripts = re.findall(r"<script\b[^>]*>", document)
    assert scripts == ['<script type="module" src="page.js">'], "one script, the page's own policy allows no other"
    reached, waiting = {"/", "/style.css"}, ["/page.js"]
    assert 'href="style.css"' in document
    while waiting:
        path = waiting.pop()
        assert path in texts, f"{path} is not served"
        if path not in reached:
            reached.add(path)
            for names in IMPORT.findall(texts[path]):
                name = "".join(names)
                assert name.startswith("./"), f"{path} imports {name}, which is not beside it"
                waiting.append(name.removeprefix("."))
    assert reached == set(PAGE), "a file that nothing uses"


def test_what_modules_import_is_exported() -> None:
    texts = modules()
    for path, text in texts.items():
        for names, module in NAMED_IMPORT.findall(text):
            assert {name.strip() for name in names.split(",")} <= set(EXPORT.findall(texts[f"/{module}"])), path
        assert len(NAMED_IMPORT.findall(text)) == len(IMPORT.findall(text)), f"{path} imports in another form"


@pytest.mark.parametrize("path", modules())
def test_modules_keep_no_state(path: str) -> None:
    """It lies in objects, which are made in one place and passed on."""
    assert state_kept_by(modules()[path]) == []


def test_state_of_a_module_is_found() -> None:
    kept = ["let run = null;", "var a;", "export let b = 1;", "const frames = [];", "const all = new Map();"]
    kept += ["a.b = 3;", "  static count = 0;", "  var c;"]
    fine = ["const TYPES = ['mp4'];", "  let rest = 1;", "const idle = () => {};"]
    fine += ["const TOKEN = new Parameters(all).get('token');"]
    assert state_kept_by("\n".join(kept)) == kept
    assert state_kept_by("\n".join(fine)) == []
