"""Builds the documentation site: `tox -e docs`.

The pages link to each other as files, so that they also work on a code host. A few of the files are outside
of `docs`. This module collects all of them in one directory, adapts their links, and lets Zensical render
them.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.project import ROOT

CONFIG = ROOT / "tools" / "zensical.toml"
OUTSIDE = (
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "SECURITY.md",
    "manifests/monitoring/alerts.yaml",
    "manifests/monitoring/dashboard.json",
)
"""Files outside of `docs` that the site has, with the same paths."""
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?(?=\))")


def collect(pages: Path) -> None:
    """Write all pages and files of the site into a new directory `pages`.

    Raises:
        ValueError: a page links to a file that the site does not have.
    """
    shutil.copytree(ROOT / "docs", pages)
    for name in OUTSIDE:
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, pages / name)
    for page in sorted(pages.rglob("*.md")):
        name = page.relative_to(pages).as_posix()
        home = ROOT / name if name in OUTSIDE else ROOT / "docs" / name
        page.write_text(adapted(page.read_text(), name, home.parent))


def adapted(text: str, name: str, home: Path) -> str:
    """Return a page whose links lead to the places in the site.

    Args:
        text: the Markdown.
        name: the path of the page in the site.
        home: the directory of the page in the repository.

    Raises:
        ValueError: a link leads to a file that the site does not have.
    """

    def replaced(match: re.Match[str]) -> str:
        target = (home / match["path"]).resolve().relative_to(ROOT).as_posix()
        if not target.startswith("docs/") and target not in OUTSIDE:
            raise ValueError(f"{name} links to {target}, which is not in the site; add it to OUTSIDE")
        up = "../" * name.count("/")
        return f"{up}{target.removeprefix('docs/')}{match['anchor'] or ''}"

    return _LINK.sub(replaced, text)


def build(directory: Path) -> Path:
    """Build the site in an existing directory, and return the directory of its HTML.

    Raises:
        ValueError: a page links to a file that the site does not have.
        CalledProcessError: Zensical failed, or had warnings. It has printed them.
    """
    collect(directory / "docs")
    shutil.copy(CONFIG, directory)
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=directory, check=True)
    return directory / "site"


def main() -> None:
    """Build the site in `build/site`."""
    directory = ROOT / "build" / "site"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    print(build(directory) / "index.html")  # noqa: T201


if __name__ == "__main__":
    main()
