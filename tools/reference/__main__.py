"""Writes the generated reference pages: `python -m tools.reference`; `--check` names stale ones and exits with 1."""

import argparse
from pathlib import Path

from tools.progress import say
from tools.reference.pages import PAGES

FOLDER = Path(__file__).parent


def main() -> int:
    """Write the pages, or check that they are fresh; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; list stale pages")
    is_check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if not is_check:
            path.write_text(text, "utf-8")
    if is_check and stale:
        say(f"stale reference pages: {', '.join(stale)}; `python -m tools.reference` writes them")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
