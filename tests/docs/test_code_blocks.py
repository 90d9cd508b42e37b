"""The syntax of the code blocks of the documentation. `tests/e2e/test_documentation.py` runs some of them."""

import re
import subprocess

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.support.code_blocks import ROOT, CodeBlock, code_blocks, pages

PAGES = pages()
LANGUAGES = {"console", "hcl", "shell", "text", "yaml"}
BLOCKS = [block for page in PAGES for block in code_blocks(page)]


def of(language: str) -> pytest.MarkDecorator:
    found = [block for block in BLOCKS if block.language == language]
    return pytest.mark.parametrize("block", found, ids=lambda block: f"{block.page}:{block.line}")


@pytest.mark.parametrize("page", PAGES)
def test_all_blocks_have_a_language(page: str) -> None:
    """Blocks by indentation have none, and other tests would not see them."""
    tokens = MarkdownIt().parse((ROOT / page).read_text())
    found = [token for token in tokens if token.type in {"fence", "code_block"}]
    assert {token.info for token in found} <= LANGUAGES
    assert len(found) == len(code_blocks(page))


@of("yaml")
def test_yaml(block: CodeBlock) -> None:
    assert all(isinstance(item, dict) for item in yaml.safe_load_all(block.text))


@of("shell")
def test_shell(block: CodeBlock) -> None:
    assert_syntax(block.text)


@of("console")
def test_console(block: CodeBlock) -> None:
    """Lines that begin with `$` are commands. The others are output."""
    commands = re.findall(r"^\$ (.*)$", block.text, re.MULTILINE)
    assert commands
    assert_syntax("\n".join(commands))


def assert_syntax(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert checked.stderr == ""
