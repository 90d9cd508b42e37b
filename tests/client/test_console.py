"""The console: colour, quiet, control characters, and what goes to stdout and stderr."""

import io

import pytest

from booking_operator.cli.kubectl.console import Console, Styled, escape, wants_color, wants_unicode, width_of
from booking_operator.cli.kubectl.output import as_csv


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "environ", "terminal", "wanted"),
    [
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
        ("never", {}, True, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"TERM": "xterm"}, True, True),
        ("auto", {"TERM": "xterm"}, False, False),
    ],
)
def test_one_function_decides_colour(
    choice: str, environ: dict[str, str], terminal: bool, wanted: bool
) -> None:
    assert wants_color(choice, environ, terminal=terminal) is wanted


@pytest.mark.parametrize(
    ("environ", "encoding", "wanted"),
    [
        ({"LANG": "de_DE.UTF-8"}, "utf-8", True),
        ({}, "UTF-8", True),
        ({"LANG": "C"}, "utf-8", False),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, "utf-8", True),
        ({"TERM": "linux"}, "utf-8", False),
        ({"LANG": "de_DE"}, "iso-8859-1", False),
    ],
)
def test_unicode_depends_on_locale_and_encoding(environ: dict[str, str], encoding: str, wanted: bool) -> None:
    assert wants_unicode(environ, encoding) is wanted


def test_control_characters_are_escaped() -> None:
    assert escape("ada\x1b[2J\u202eevil\n") == "ada\\x1b[2J\\u202eevil\\n"
    assert escape("Zoë 漢") == "Zoë 漢"


def test_a_table_aligns_wide_characters_and_leaves_no_blanks() -> None:
    out = Terminal()
    console = Console("never", out=out, err=Terminal(), environ={"LANG": "C.UTF-8"})
    console.table(("USER", "NOTE"), [("漢字", ""), ("ada", Styled("late", "red"))])
    assert out.getvalue() == "USER   NOTE\n漢字\nada    late\n"
    assert width_of("漢字") == 4
    assert width_of("e\u0301") == 1


def test_without_unicode_the_text_stays_readable() -> None:
    out = Terminal()
    Console("never", out=out, err=Terminal(), environ={"LANG": "C"}).out("09:00–18:00 · more…")
    assert out.getvalue() == "09:00-18:00 | more...\n"


def test_quiet_leaves_out_notes_but_no_errors() -> None:
    out, err = Terminal(), Terminal()
    console = Console("never", quiet=True, out=out, err=err, environ={})
    console.note("a note")
    console.redraw("progress")
    console.error("it failed", "do this")
    assert (out.getvalue(), err.getvalue()) == ("", "error: it failed\nhint: do this\n")


def test_progress_is_redrawn_on_a_terminal_and_a_line_per_change_elsewhere() -> None:
    err = Terminal()
    console = Console("never", out=Terminal(), err=err, environ={"TERM": "xterm"})
    console.redraw("1 of 2")
    console.redraw("2 of 2")
    console.note("done")
    assert err.getvalue() == "\r\x1b[2K1 of 2\r\x1b[2K2 of 2\ndone\n"
    plain = io.StringIO()
    console = Console("never", out=io.StringIO(), err=plain, environ={"TERM": "xterm"})
    console.redraw("1 of 2")
    assert plain.getvalue() == "1 of 2\n"


@pytest.mark.parametrize("user", ["=cmd()", "+1", "-1", "@SUM", "\t=x"])
def test_a_cell_of_csv_is_no_formula(user: str) -> None:
    assert as_csv(("user", "hours"), [{"user": user, "hours": -1}]).splitlines()[1].strip('"').startswith("'")
    assert as_csv(("user", "hours"), [{"user": "ada", "hours": -1}]) == "user,hours\nada,-1\n"
    assert as_csv(("user",), []) == "user\n"
    assert as_csv(("user",), [{"user": "\x1b]0;x\x07"}]) == "user\n\\x1b]0;x\\x07\n"
