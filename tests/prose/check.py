"""Find words to avoid in documentation, docstrings, comments, messages and names of tests.

The check replaces each character that is not prose with a filler, and applies the rules in `rules` to the
result. Offsets are therefore the same as in the file. The check skips a line that contains `prose: ok`.
"""

import io
import re
import token
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from tests.prose.rules import CHECKED, NOT_CHECKED, RULES

ROOT = Path(__file__).parents[2]
MARKER = "prose: ok"

_FILLER = "\0"
"""Replaces a character that is not prose. No rule matches across it."""
_CODE_SPAN = re.compile(r"(`+)(?!`)(?:(?!\n[ \t]*\n).)*?(?<!`)\1(?!`)", re.DOTALL)
_URL = re.compile(r"https?://[^\s)>\"']+")
_LINK_TARGET = re.compile(r"(?<=\]\()[^)\n]*(?=\))")
_FENCED = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[^\n]*$", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"<!-- (?P<name>\w+): begin -->.*?<!-- (?P=name): end -->", re.DOTALL)
_INDENTED = re.compile(r"(?:\A|(?<=\n\n))(?: {4,}\S[^\n]*(?:\n+|\Z))+")
_INTERPOLATION = re.compile(r"\{[^{}]*\}")
_STRING = re.compile(r"(?P<prefix>[a-zA-Z]*)(?P<quote>\"\"\"|'''|\"|')(?P<body>.*)(?P=quote)", re.DOTALL)
_ESCAPE = re.compile(r"\\[^\n]")
# Since Python 3.12, an f-string is several tokens.
_FSTRING_MIDDLE = getattr(token, "FSTRING_MIDDLE", -1)
_FSTRING_QUOTES = {getattr(token, "FSTRING_START", -1), getattr(token, "FSTRING_END", -1)}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A phrase to avoid.

    Attributes:
        path: the file, relative to the top directory.
        line: its line, from 1.
        column: its first character in that line, from 1.
        phrase: the phrase, with single spaces.
        suggestion: what to write instead.
    """

    path: str
    line: int
    column: int
    phrase: str
    suggestion: str

    def __str__(self) -> str:
        """The line that the check prints."""
        return f"{self.path}:{self.line}:{self.column}: {self.phrase!r}: write {self.suggestion}"


def files(
    root: Path, checked: Sequence[str] = CHECKED, not_checked: Sequence[str] = NOT_CHECKED
) -> list[Path]:
    """Return the files that match `checked` and do not match `not_checked`, in the order of their paths."""
    found = {path for pattern in checked for path in root.glob(pattern) if path.is_file()}
    return sorted(
        path
        for path in found
        if not any(fnmatchcase(path.relative_to(root).as_posix(), pattern) for pattern in not_checked)
    )


def findings(path: str, text: str) -> list[Finding]:
    """Return the phrases to avoid in one file, in order.

    Args:
        path: the path relative to the top directory; the suffix determines which parts are prose.
        text: the content of the file.
    """
    searched, lines = prose(path, text), text.splitlines()
    skipped = {number for number, line in enumerate(lines, 1) if MARKER in line}
    found = []
    for rule in RULES:
        for match in rule.pattern.finditer(searched):
            start = match.start("phrase")
            line = text.count("\n", 0, start) + 1
            if line not in skipped:
                column = start - (text.rfind("\n", 0, start) + 1) + 1
                phrase = " ".join(match["phrase"].split())
                found.append(Finding(path, line, column, phrase, rule.suggestion))
    return sorted(found)


def prose(path: str, text: str) -> str:
    """Return the text with a filler in place of each character that is not prose, except line breaks.

    Markdown is prose without its code and its generated parts. In a Python module, comments, names of tests
    and strings that contain a space are prose. Any other file is prose as a whole, because no rule matches
    its keys and identifiers.
    """
    suffix = PurePath(path).suffix
    if suffix == ".py":
        text = _python(text)
    elif suffix == ".md":
        for pattern in (_GENERATED, _FENCED, _INDENTED):
            text = pattern.sub(_filled, text)
    for pattern in (_CODE_SPAN, _LINK_TARGET, _URL):
        text = pattern.sub(_filled, text)
    return text


def _filled(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", _FILLER, match[0])


def _python(text: str) -> str:
    """Return the text of a module, with fillers in place of code."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    kept = [char if char.isspace() else _FILLER for char in text]
    for start, end, found in _python_prose(text):
        first, last = starts[start[0] - 1] + start[1], starts[end[0] - 1] + end[1]
        kept[first:last] = found
    return "".join(kept)


def _python_prose(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int], str]]:
    """Yield start, end and prose of each token with prose. The prose has the length of the token."""
    before = ""
    for item in tokenize.generate_tokens(io.StringIO(text).readline):
        if item.type == token.COMMENT:
            yield item.start, item.end, item.string.replace("#", " ", 1)
        elif item.type == token.STRING:
            yield item.start, item.end, _string(item.string)
        elif item.type == _FSTRING_MIDDLE and not {"{", "}"} & set(item.string):
            yield item.start, item.end, _ESCAPE.sub("  ", item.string)
        elif item.type in _FSTRING_QUOTES:
            yield item.start, item.end, " " * len(item.string)
        elif item.type == token.NAME and before == "def" and item.string.startswith("test_"):
            yield item.start, item.end, item.string.replace("_", " ")
        before = item.string


def _string(literal: str) -> str:
    """Return the prose of a string literal: its text without quotes, escapes and interpolations."""
    match = _STRING.fullmatch(literal)
    if match is None or not re.search(r"\S\s+\S", match["body"]):
        return re.sub(r"\S", _FILLER, literal)
    body = _ESCAPE.sub("  ", match["body"])
    if "f" in match["prefix"].lower():
        body = _INTERPOLATION.sub(_filled, body)
    quote = " " * len(match["quote"])
    return " " * len(match["prefix"]) + quote + body + quote
