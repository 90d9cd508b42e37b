"""The check of prose reports phrases to avoid, skips code, and passes for this project."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.prose import __main__ as command
from tests.prose.check import ROOT, files, findings, prose
from tests.prose.rules import CHECKED, NOT_CHECKED, RULES

AVOID = [
    "Everything is listed anew.",
    "Mend the cause.",
    "It mends, mended, is mending.",
    "Never stop on a doubt.",
    "This is doubtful.",
    "It tells the user.",
    "Told once.",
    "They are hard to tell apart.",
    "Whoever asks waits.",
    "For whomever.",
    "Ask first, lest it fails.",
    "Secrets are none of its business.",
    "It ends of itself.",
    "They go of themselves.",
    "Nobody else may write.",
    "It goes on all the same.",
    "It is fast, as a rule.",
    "As a rule, it is fast.",
    "For the sake of speed.",
    "It fails for want of room.",
    "Any reply, be it lost, counts.",
    "The elder acts.",
    "The eldest acts.",
    "Whence it came.",
    "It is sent by who leads.",
    "Who leads may write.",
    "It waits. Who leads may write, and no other\nreplica.",
    "- Who leads may write.",
    "| a | Who leads may write. |",
]
FINE = [
    "Amend the change that we recommend, and commend it.",
    "It stops. Who leads?",
    "Who leads and how long does it take?",
    "# Who leads\n\nOne replica does.",
    "| Who leads | One replica. |",
    "The user who leads may write.",
    "A copy of itself is part of itself.",
    "The states are all the same.",
    "It counts as a rule for the sake.",
    "It must be it, or there has to be it.",
    "Is this one of them? None of them.",
    "The foretold end.",
    "An anewer name, and a-new one.",
    "Elderly.",
    "Who",
]


@pytest.mark.parametrize("text", AVOID)
def test_a_phrase_to_avoid_is_reported(text: str) -> None:
    assert findings("page.md", text + "\n")


@pytest.mark.parametrize("text", FINE)
def test_plain_english_passes(text: str) -> None:
    assert findings("page.md", text + "\n") == []


def test_a_finding_has_position_phrase_and_suggestion() -> None:
    [finding] = findings("docs/page.md", "# Page\n\nIt runs  for the\nsake of speed.\n")
    assert str(finding) == "docs/page.md:3:10: 'for the sake of': write for, because of"


def test_a_phrase_does_not_extend_over_a_paragraph() -> None:
    assert findings("page.md", "For the\n\nsake of speed.\n") == []


@pytest.mark.parametrize(
    "text",
    [
        "Set `tell` or ``a ` anew``.",
        "Set `whoever asks\nanew` here.",
        "Read [this](page.md#anew-and-told), or https://example.com/anew.",
        "Run\n\n    tell anew\n\n    tell again\n\nin a shell.",
        "Run\n\n```\ntell anew\n```\n\nin a shell.",
        "<!-- soak: begin -->\nListed anew.\n<!-- soak: end -->",
    ],
)
def test_code_links_and_generated_parts_of_a_page_are_not_prose(text: str) -> None:
    assert findings("page.md", text + "\n") == []


def test_text_beside_code_is_prose() -> None:
    text = "Run\n\n    tell\n\nand list `x` anew.\n\n- A list\n  is read anew.\n"
    assert [(item.line, item.phrase) for item in findings("page.md", text)] == [(5, "anew"), (8, "anew")]


MODULE = '''"""Reads the list anew.

Whoever asks waits.
"""

tell = {"tell": 1, 'told': "b"}  # tells nothing


def test_each_list_is_read_anew(anew: str) -> None:
    """A list that `tells` nothing."""
    # All is read for the
    # sake of speed.
    said = f"it {tell} is \\told anew" + (
        "for the "
        "sake of speed"
    )


def read_anew() -> None: ...
'''


def test_docstrings_comments_messages_and_names_of_tests_are_the_prose_of_a_module() -> None:
    assert [(item.line, item.column, item.phrase) for item in findings("module.py", MODULE)] == [
        (1, 19, "anew"),
        (3, 1, "Whoever"),
        (6, 36, "tells"),
        (9, 28, "anew"),
        (11, 19, "for the sake of"),
        (13, 33, "anew"),
        (14, 10, "for the sake of"),
    ]


@pytest.mark.parametrize("path", ["rule.yaml", "board.json", "tox.ini"])
def test_any_other_file_is_prose_as_a_whole(path: str) -> None:
    assert [item.line for item in findings(path, "# Told.\nkey: tells\nlock_told: 1\n")] == [1, 2]


def test_a_marked_line_is_skipped() -> None:
    assert findings("rule.yaml", "# Told.  prose: ok, a quotation\n") == []
    assert findings("page.md", "It tells. <!-- prose: ok -->\n") == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/**/*.py")), ids=lambda path: path.name)
def test_offsets_are_the_same_as_in_the_file(path: Path) -> None:
    text = path.read_text()
    found = prose("module.py", text)
    assert len(found) == len(text)
    assert [len(line) for line in found.split("\n")] == [len(line) for line in text.split("\n")]


def test_each_pattern_matches_a_file() -> None:
    for pattern in CHECKED:
        assert list(ROOT.glob(pattern)), pattern
    for pattern in NOT_CHECKED:
        assert list(ROOT.glob(pattern)), pattern


def test_excluded_files_are_not_checked(tmp_path: Path) -> None:
    for name in ("a.md", "docs/b.md", "docs/deep/c.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Told.\n")
    found = files(tmp_path, ("*.md", "docs/**/*.md", "docs/*.md"), ("docs/b.md",))
    assert found == [tmp_path / "a.md", tmp_path / "docs/deep/c.md"]


def test_each_rule_has_an_example_here() -> None:
    for rule in RULES:
        assert any(rule.pattern.search(text) for text in AVOID), rule.pattern.pattern


def test_the_command_prints_findings_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text("It tells.\n")
    (tmp_path / "good.md").write_text("It reports.\n")
    bad = CliRunner().invoke(command.main, [str(tmp_path / "page.md")])
    assert (bad.exit_code, bad.output.splitlines()[0].partition(": write")[0]) == (1, "page.md:1:4: 'tells'")
    good = CliRunner().invoke(command.main, [str(tmp_path / "good.md")])
    assert (good.exit_code, good.output) == (0, "")
