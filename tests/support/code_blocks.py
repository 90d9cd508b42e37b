"""Commands and files from the code blocks of documentation pages."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, heading: str = "") -> list[str]:
    """The indented code blocks of a page or of one section, in order."""
    text = (ROOT / page).read_text()
    if heading:
        section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section is not None, f"{page} has no section {heading}"
        text = section[1]
    found = re.findall(r"(?:^\n)((?:^ {4,}\S.*\n)(?:^(?: {4,}.*)?\n)*)", text, re.MULTILINE)
    return [textwrap.dedent(block).strip("\n") + "\n" for block in found]


def commands(page: str, heading: str) -> list[str]:
    """The kubectl and aws commands of a section, each in one line."""
    lines = "".join(blocks(page, heading)).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.match(r"(kubectl|aws) ", line)]
