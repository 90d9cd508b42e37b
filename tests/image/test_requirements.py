"""Messages about missing programs contain the fix."""

import pytest

from tests.support.node.requirements import missing


@pytest.mark.parametrize(
    ("programs", "root", "message"),
    [
        ({"sh": "dash"}, True, ""),
        ({"sh": "dash"}, False, "run it as root"),
        ({"no-such-program": "b", "nor-this": "a", "nor-that": "a"}, True, "apt-get install a b"),
        ({"no-such-program": "b"}, False, "run it as root, and apt-get install b"),
    ],
)
def test_the_message_has_the_commands_that_fix_it(programs: dict[str, str], root: bool, message: str) -> None:
    assert missing(programs, root=root) == message
