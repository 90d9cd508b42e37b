"""What a machine lacks is reported with the fix."""

import pytest

from tests.support.node.requirements import missing


@pytest.mark.parametrize(
    ("programs", "root", "told"),
    [
        ({"sh": "dash"}, True, ""),
        ({"sh": "dash"}, False, "run it as root"),
        ({"no-such-program": "b", "nor-this": "a", "nor-that": "a"}, True, "apt-get install a b"),
        ({"no-such-program": "b"}, False, "run it as root, and apt-get install b"),
    ],
)
def test_what_is_missing_is_named(programs: dict[str, str], root: bool, told: str) -> None:
    assert missing(programs, root=root) == told
