"""Looks at every page of the dashboard in both themes at every width: `make pictures` writes what it sees, `make axe` asks axe.

Pictures are WebP in docs/images/dashboard, named by page, width and theme. `--only NAME` takes pages whose name contains it.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_FOLDER: Final = _ROOT / "docs" / "images" / "dashboard"


def main() -> None:
    """Look at the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names of the pages")
    parser.add_argument("--check", action="store_true", help="ask axe and write nothing")
    options = parser.parse_args()
    sys.path[:0] = [str(_ROOT / "src"), str(_ROOT / "tests")]
    os.environ.setdefault("LOYALPRO_LOG_FORMAT", "json")
    with tempfile.TemporaryDirectory() as folder:
        problems = _look(Path(folder), options.only, check=options.check)
    sys.exit("\n".join(problems) or None)


def _look(folder: Path, only: str, *, check: bool) -> list[str]:
    from support.chromium import THEMES, WIDTHS, Browser, Tab, Theme
    from support.databases import Databases
    from support.scenes import LOOKS, Scene
    from support.server import Server

    def looked_at(name: str, tab: Tab, width: int, theme: str) -> list[str]:
        look = LOOKS[name]
        path = look.address(scene)
        if look.role is not None:
            tab.sign_in(scene.token(look.role))
        tab.open(path)
        if check:
            return [f"{name} {width} {theme}: {each}" for each in tab.violations()]
        (_FOLDER / f"{name}-{width}-{theme}.webp").write_bytes(tab.picture())
        return []

    def seen(name: str, theme: Theme, width: int) -> list[str]:
        with browser.tab(scene.base_url, width=width, theme=theme) as tab:
            return looked_at(name, tab, width, theme)

    _FOLDER.mkdir(parents=True, exist_ok=True)
    browser = Browser()
    try:
        with Server(Databases(folder).fresh("sqlite"), with_components=True) as server:
            scene = Scene(server)
            looks = product([each for each in LOOKS if only in each], THEMES, WIDTHS)
            return [each for look in looks for each in browser.run(partial(seen, *look))]
    finally:
        browser.stop()


if __name__ == "__main__":
    main()
