"""Commands and files from the code blocks of documentation pages."""

import re
import textwrap
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNNABLE = "<!-- runnable -->"
"""The line before a block whose commands run in a test."""
_FENCED = re.compile(
    rf"^(?P<mark>{RUNNABLE}\n+)?(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One code block.

    Attributes:
        page: the path of the page, relative to the top directory.
        line: the line of its first character, from 1.
        language: the language after the fence: yaml, shell, console, json, hcl or text.
        text: its content.
        runnable: whether a test runs its commands.
    """

    page: str
    line: int
    language: str
    text: str
    runnable: bool


def pages() -> list[str]:
    """The pages of the documentation, by their paths relative to the top directory."""
    found = (path for pattern in ("*.md", "docs/**/*.md") for path in ROOT.glob(pattern))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def code_blocks(page: str, heading: str = "") -> list[CodeBlock]:
    """The code blocks of a page or of one section, in order."""
    text, start = (ROOT / page).read_text(), 0
    if heading:
        section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section is not None, f"{page} has no section {heading}"
        text, start = section[1], text.count("\n", 0, section.start(1))
    return [
        CodeBlock(
            page,
            start + text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            textwrap.dedent(found["text"]),
            bool(found["mark"]),
        )
        for found in _FENCED.finditer(text)
    ]


def blocks(page: str, heading: str = "") -> list[str]:
    """The texts of the code blocks of a page or of one section, in order."""
    return [block.text for block in code_blocks(page, heading)]


def commands(page: str, heading: str, programs: Collection[str] = ("kubectl", "aws")) -> list[str]:
    """The commands of a section that call one of these programs, each in one line."""
    lines = "".join(blocks(page, heading)).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.split(" ")[0] in programs]
