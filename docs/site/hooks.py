"""What the site has beside the pages of docs/: documents of the root, and files that pages name.

A page of docs/ names them by `../`; in the site they lie below the pages. mkdocs calls `on_files`
and `on_page_markdown`.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "gateway/proxy/README.md": "notes-proxy.md",
    "gateway/workers/README.md": "notes-workers.md",
    "planner/program/README.md": "notes-program.md",
}
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the documents of the root, and every file that a document names."""
    for name, place in PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / name).read_text()))
    left = [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in PAGES)]
    added: set[str] = set()
    while left:  # a document that is added names others, perhaps
        document = left.pop()
        for _, target in LINK.findall(document.read_text()):
            path = (document.parent / target).resolve()
            place = _place(path)
            if place is not None and place.startswith("files/") and place not in added:
                added.add(place)
                files.append(File.generated(config, place, abs_src_path=str(path)))
                left += [path] if path.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links lead to where things lie in the site."""
    here = page.file.src_uri
    places = {place: name for name, place in PAGES.items()}
    origin = ROOT / places.get(here, here.removeprefix("files/") if "/" in here else f"docs/{here}")

    def moved(link: re.Match[str]) -> str:
        place = _place((origin.parent / link[2]).resolve())
        if place is None:
            return link[0]
        return link[1] + posixpath.relpath(place, posixpath.dirname(here) or ".")

    return LINK.sub(moved, markdown)


def _place(path: Path) -> str | None:
    """Where a file of the checkout lies in the site; `None` if it is none."""
    if not path.is_file() or not path.is_relative_to(ROOT):
        return None
    name = path.relative_to(ROOT).as_posix()
    return PAGES.get(name) or (name[5:] if name.startswith("docs/") else f"files/{name}")
