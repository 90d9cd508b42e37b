"""The documentation site has no warning, no dead link, and no page outside of its navigation."""

import json
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from markdown_it import MarkdownIt

from tools.project import ROOT
from tools.site import CONFIG, adapted, build


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


class Html(HTMLParser):
    """The links and the anchors of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links |= {value for name in ("href", "src") if (value := named.get(name))}
        self.anchors |= {value for name in ("id", "name") if (value := named.get(name))}


def pages_of(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(item)


def targets(site: Path, page: Path, text: Html) -> Iterator[tuple[str, Path, str]]:
    """The local links of a page: as they are written, the file, and the anchor."""
    for link in text.links:
        path, anchor = urldefrag(link)
        if not urlsplit(link).scheme and not link.startswith("//"):
            place = site / path[1:] if path.startswith("/") else page.parent / path
            target = (Path(unquote(str(place))) if path else page).resolve()
            yield link, target / "index.html" if target.is_dir() else target, unquote(anchor)


def test_each_link_leads_to_a_file_and_an_anchor(site: Path) -> None:
    texts = {page: Html(page.read_text()) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(texts) > 30
    dead = [
        f"{page.relative_to(site)}: {link}"
        for page, text in texts.items()
        for link, target, anchor in targets(site, page, text)
        if not target.exists() or (anchor and target in texts and anchor not in texts[target].anchors)
    ]
    assert dead == []


def test_each_numbered_list_is_one_list(site: Path) -> None:
    """A block in a list item must be indented by four spaces, or the list begins again after it."""
    pages = site.parent / "docs"
    for page in pages.rglob("*.md"):
        folder = page.relative_to(pages).with_suffix("")
        home = folder.parent if folder.name in {"index", "README"} else folder
        tokens = MarkdownIt().parse(page.read_text())
        wanted = sum(token.type == "ordered_list_open" for token in tokens)
        assert (site / home / "index.html").read_text().count("<ol") == wanted, page.name


def test_every_page_is_in_the_navigation(site: Path) -> None:
    nav = list(pages_of(tomllib.loads(CONFIG.read_text())["project"]["nav"]))
    pages = [path.relative_to(site.parent / "docs").as_posix() for path in site.parent.rglob("docs/**/*.md")]
    assert sorted(nav) == sorted(pages)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("teams/", "Give a team its own namespace"),
        ("aws-calls/", "What it costs in AWS calls"),
        ("migrating/", "From AWS Instance Scheduler"),
    ],
)
def test_the_home_page_leads_to_the_answer(site: Path, place: str, words: str) -> None:
    """Each of these questions is answered one click away, and the search finds the heading."""
    home = site / "index.html"
    reached = {target for _, target, _ in targets(site, home, Html(home.read_text()))}
    answer = site / place / "index.html"
    assert answer in reached
    assert words in answer.read_text()
    assert words in {item["title"] for item in json.loads((site / "search.json").read_text())["items"]}


def test_links_are_adapted_to_the_place_of_a_page() -> None:
    text = "[a](docs/kinds/booking.md#notifications) [b](LICENSE) [c](#here) [d](https://example.com/x.md)"
    assert adapted(text, "CONTRIBUTING.md", ROOT) == (
        "[a](kinds/booking.md#notifications) [b](LICENSE) [c](#here) [d](https://example.com/x.md)"
    )
    text = "[a](../../CHANGELOG.md) [b](resource.md)"
    assert adapted(text, "kinds/booking.md", ROOT / "docs" / "kinds") == (
        "[a](../CHANGELOG.md) [b](../kinds/resource.md)"
    )


def test_a_link_to_a_file_that_the_site_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image\.md links to Dockerfile, which is not in the site"):
        adapted("[Dockerfile](../Dockerfile)", "image.md", ROOT / "docs")
