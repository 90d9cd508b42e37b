"""The words and phrases that the check reports, the files that it reads, and the exceptions.

The rules come from the documentation style guides of Kubernetes and of Google. Many readers do not speak
English as their first language. They know a standard term, but not an idiom.
"""

import re
from dataclasses import dataclass

CHECKED = (
    "*.md",
    ".github/**/*.md",
    ".github/**/*.yml",
    "charts/**/*.md",
    "charts/**/*.tpl",
    "charts/**/*.txt",
    "charts/**/*.yaml",
    "docs/**/*.md",
    "manifests/**/*.json",
    "manifests/**/*.yaml",
    "booking_operator/**/*.py",
    "tests/**/*.py",
    "bench/**/*.py",
    "tools/**/*.py",
)
"""Glob patterns of the files that the check reads, relative to the top directory."""

NOT_CHECKED = (
    "charts/booking-operator/files/**/*.yaml",  # copies of files in manifests
    "docs/reference/*.md",  # generated from the code
    "manifests/crds/manager.kotaico.de_*.yaml",  # generated from the models in booking_operator/api
    "tests/prose/rules.py",  # contains the words
    "tests/prose/test_check.py",  # contains the words
)
"""Glob patterns of files that the check leaves out although `CHECKED` matches them."""

GAP = r"(?:[ \t]+|[ \t]*\n[ \t]*)"
"""The space between two words of a paragraph. It contains at most one line break."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One word or phrase to avoid.

    Attributes:
        pattern: matches the phrase, in its group `phrase`.
        suggestion: what to write instead.
    """

    pattern: re.Pattern[str]
    suggestion: str


def _rule(phrase: str, suggestion: str) -> Rule:
    """Return a rule that matches whole words, in upper case and lower case.

    Args:
        phrase: a regular expression; each space in it matches `GAP`.
        suggestion: what to write instead.
    """
    pattern = rf"(?<![\w-])(?P<phrase>{phrase.replace(' ', GAP)})(?![\w-])"
    return Rule(re.compile(pattern, re.IGNORECASE), suggestion)


# A sentence such as "Who holds the Lease may write." The match requires a full stop, so that it leaves out
# questions, headings and cells of tables.
_WHO = re.compile(
    r"(?:^(?:\s*[-*])?|[.:;!?|])\s*(?P<phrase>Who)(?=\s+\w[^.?!|\n]*(?:\n[^.?!|\n]*\w[^.?!|\n]*)*[.!])",
    re.MULTILINE,
)

RULES = (
    _rule(r"anew", "again"),
    _rule(r"mend(?:s|ed|ing)?", "fix, correct, repair"),
    _rule(r"doubt(?:s|ed|ful)?", "stale data, uncertain"),
    _rule(r"tell(?:s|ing)?|told", "show, report, say, notify; for 'tell apart': distinguish"),
    _rule(r"whoever|whomever", "a noun, such as 'callers' or 'the user who'"),
    _rule(r"lest", "so that … does not"),
    _rule(r"(?:is|are|was|were) none of", "a positive sentence"),
    _rule(r"(?<!copy\s)(?<!part\s)of (?:itself|themselves)", "automatically"),
    _rule(r"(?:nobody|no one) else", "a noun, such as 'no other user'"),
    _rule(r"(?<!is\s)(?<!are\s)(?<!was\s)(?<!were\s)(?<!be\s)all the same", "still, nevertheless"),
    _rule(r"as a rule(?=[,.;:)])|(?<=[,;(]\s)as a rule", "usually"),
    _rule(r"for the sake of", "for, because of"),
    _rule(r"for want of", "because … is missing"),
    _rule(r"(?<!\sto\s)(?<!must\s)(?<!might\s)be (?:it|they)", "whether it is, for example"),
    _rule(r"elder|eldest", "older, oldest"),
    _rule(r"whence|hitherto|heretofore|whereupon|thereupon|albeit", "a plain word"),
    _rule(r"(?:by|against) who(?= \w)", "a noun, such as 'by the client that'"),
    Rule(_WHO, "a noun, such as 'A user who'"),
)
