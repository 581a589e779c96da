"""Makes the pictures of the page in docs/images: `make screenshots`.

Needs chromium. `--serve` only starts the gateway, the engines and the traffic of `stage.py`.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image  # comes with matplotlib

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `tests` and `docs` are not installed

from docs.stage import run, staged  # noqa: E402
from tests.chromium import Chromium  # noqa: E402

DRAWN = "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true), 400)))"
IMAGES = ROOT / "docs" / "images"
PHONE = {"width": 390, "height": 844, "phone": True}
PICTURES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("now", "now", {}),
    ("now-dark", "now", {"dark": True}),
    ("now-phone", "now", PHONE),
    ("sizes", "sizes", {}),
    ("sizes-phone", "sizes", PHONE | {"dark": True}),
    ("plan", "plan", {}),
    ("history", "history", {"dark": True}),
    ("requests", "requests", {}),
    ("backends", "backends", {}),
    ("bill", "bill", {}),
)


def take(url: str, folder: Path, only: list[str]) -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with Chromium(folder) as browser:
        for name, view, options in PICTURES:
            if only and name not in only:
                continue
            page = browser.page(f"{url}/#{view}", **options)
            page.seen(f"document.querySelector('.view.{view} table, .view.{view} ol')")
            if view == "sizes":
                page.value(
                    "(document.querySelector('.field.split:not(.faint)')"
                    " ?? document.querySelector('.field:not(.faint):not(.none)')).click()"
                )
            if view == "requests":
                page.value("document.querySelector('table.requests button').click()")
            page.seen(DRAWN)
            path = IMAGES / f"page-{name}.png"
            page.picture(path)
            Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                path, optimize=True
            )
            print(path.name, path.stat().st_size, *page.mistakes)
            page.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=320, help="Of traffic before the pictures."
    )
    parser.add_argument("--serve", action="store_true", help="Only start all, and say where.")
    parser.add_argument("only", nargs="*", help="Names of pictures.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        folder = Path(made)
        async with staged(folder, crowds=True) as fleet:
            print(f"{fleet.admin_url}/  gateway {fleet.pid}", flush=True)
            await asyncio.sleep(1e9 if options.serve else options.seconds)
            await asyncio.to_thread(take, fleet.admin_url, folder, options.only)


if __name__ == "__main__":
    run(main())
