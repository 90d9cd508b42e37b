"""Writes to the terminal: data to stdout; notes, hints and errors to stderr.

It escapes control characters in all text, because names and messages come from other people. Colour never has
a meaning that the text does not have.
"""

import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

_STYLES = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1", "cyan": "36"}
_ASCII = str.maketrans({"–": "-", "·": "|", "…": "...", "×": "x"})
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Styled:
    """Text with a style: a colour, `dim` or `bold`; empty for none."""

    text: str
    style: str = ""


Text = str | Styled


def wants_color(choice: str, environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Decide whether to use colour: by `--color`, then NO_COLOR, then TERM, then whether it is a terminal."""
    if choice in {"always", "never"}:
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    return environ.get("TERM") != "dumb" and terminal


def wants_unicode(environ: Mapping[str, str], encoding: str) -> bool:
    """Decide whether to write characters beyond ASCII, by the locale and the encoding of the output."""
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name))), "")
    plain = locale.upper() in {"C", "POSIX"} or environ.get("TERM") == "linux"
    return not plain and encoding.lower().replace("-", "") == "utf8"


def escape(text: str) -> str:
    """Return text in which control characters are visible, also those that change the direction of text."""
    if text.isprintable() and _BIDI.isdisjoint(text):
        return text
    return "".join(
        char if char.isprintable() and char not in _BIDI else char.encode("unicode_escape").decode()
        for char in text
    )


def width_of(text: str) -> int:
    """Return the number of terminal columns of a text."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


class Console:
    """The terminal of one command.

    Args:
        color: the value of `--color`.
        quiet: whether to leave out notes.
        out: stdout.
        err: stderr.
        environ: the environment.
    """

    def __init__(
        self,
        color: str = "auto",
        *,
        quiet: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._out, self._err = out or sys.stdout, err or sys.stderr
        environ = os.environ if environ is None else environ
        self._quiet = quiet
        self.colored = {
            stream: wants_color(color, environ, terminal=stream.isatty()) for stream in (self._out, self._err)
        }
        self.unicode = wants_unicode(environ, self._out.encoding or "")
        self.interactive = self._err.isatty() and environ.get("TERM") != "dumb"
        self._line_is_open = False

    def out(self, *parts: Text) -> None:
        """Write one line of data to stdout."""
        self._close_line()
        self._write(self._out, parts)

    def raw(self, text: str) -> None:
        """Write a document for programs to stdout, unchanged."""
        self._out.write(text if text.endswith("\n") else f"{text}\n")
        self._out.flush()

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Text]]) -> list[int]:
        """Write a table like those of kubectl to stdout. Returns the widths of its columns."""
        self._close_line()
        plain = [[self._plain(cell) for cell in row] for row in (head, *rows)]
        widths = [max(map(width_of, column)) for column in zip(*plain, strict=True)]
        self.rows(widths, [head, *rows])
        return widths

    def rows(self, widths: Sequence[int], rows: Sequence[Sequence[Text]]) -> None:
        """Write rows to stdout, in columns of at least the given widths."""
        for row in rows:
            parts: list[Text] = []
            for cell, width in zip(row, widths, strict=True):
                parts += [cell, " " * max(width - width_of(self._plain(cell)) + 3, 1)]
            self._write(self._out, parts[:-1])

    def note(self, *parts: Text) -> None:
        """Write one line to stderr, unless the user wants it quiet."""
        if not self._quiet:
            self._close_line()
            self._write(self._err, parts)

    def redraw(self, text: str) -> None:
        """Replace the last line of progress on a terminal; otherwise write a line."""
        if not self.interactive:
            self.note(text)
        elif not self._quiet:
            # A line that wraps would not be replaced as a whole.
            columns = shutil.get_terminal_size().columns
            self._err.write(f"\r\x1b[2K{self._plain(text)[: columns - 1]}")
            self._err.flush()
            self._line_is_open = True

    def error(self, message: str, hint: str = "") -> None:
        """Write an error and its hint to stderr."""
        self._close_line()
        self._write(self._err, (Styled("error:", "red"), f" {message}"))
        if hint:
            self._write(self._err, (Styled("hint:", "cyan"), f" {hint}"))

    def _close_line(self) -> None:
        if self._line_is_open:
            self._err.write("\n")
            self._line_is_open = False

    def _plain(self, part: Text) -> str:
        text = escape(part.text if isinstance(part, Styled) else part)
        return text if self.unicode else text.translate(_ASCII)

    def _write(self, stream: TextIO, parts: Sequence[Text]) -> None:
        line = ""
        for part in parts:
            text = self._plain(part)
            if isinstance(part, Styled) and part.style and text.strip() and self.colored[stream]:
                text = f"\x1b[{_STYLES[part.style]}m{text}\x1b[0m"
            line += text
        stream.write(f"{line.rstrip()}\n")
        stream.flush()
