"""Each link in the documentation leads to a file or a heading that exists."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.prose.check import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
CODE = re.compile(r"^ {4,}[^\n]*$|^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub generates them."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#+ +(.*?) *$", CODE.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for match in LINK.finditer(page.read_text()):
        target = (page.parent / match["path"]).resolve() if match["path"] else page
        assert target.exists(), match[0]
        if match["anchor"]:
            assert match["anchor"] in anchors(target), match[0]


def test_each_alert_links_to_a_heading() -> None:
    alerts = (ROOT / "manifests" / "monitoring" / "alerts.yaml").read_text()
    links = re.findall(r"runbook_url: (\S+)#(\S+)", alerts)
    assert links
    for page, anchor in links:
        assert anchor in anchors(ROOT / page)


def test_anchors_are_the_same_as_on_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`\n\n## Why? (A)\n\n## Why? (A)\n\n    # not a heading\n\n### a_b-c [d](e)\n")
    assert anchors(page) == {"one-two", "why-a", "why-a-1", "a_b-c-d"}
