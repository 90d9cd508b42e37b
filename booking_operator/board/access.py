"""Which requests a board answers, and as whose board: on loopback, and in the cluster."""

from collections.abc import Awaitable, Callable, Mapping

from booking_operator.board.board import Board
from booking_operator.board.security import READS, AccessRules, Refusal
from booking_operator.client.cluster import UserInfo

Authenticate = Callable[[Mapping[str, str]], Awaitable[UserInfo | None]]
"""Returns the user whom the headers of a request name; None for nobody."""


class LocalAccess:
    """The access to a board on loopback: one user, who has the token.

    Args:
        rules: the rules for each request.
        board: the board of the user.
    """

    def __init__(self, rules: AccessRules, board: Board) -> None:
        self.refusal = rules.refusal
        self._board = board

    async def board(self, _: Mapping[str, str]) -> Board:
        """Return the board of the user."""
        return self._board


class InClusterAccess:
    """The access to a board in the cluster: any number of users, who only read.

    Args:
        authenticate: finds the user of a request.
        board_of: makes the board of a user.
    """

    def __init__(self, authenticate: Authenticate, board_of: Callable[[UserInfo], Board]) -> None:
        self._authenticate = authenticate
        self._board_of = board_of

    def refusal(self, method: str, _: str, __: Mapping[str, str]) -> Refusal | None:
        """Refuse each request that is not a read."""
        if method in READS:
            return None
        return Refusal(405, "this board is read-only; to change bookings, run kubectl booking board")

    async def board(self, headers: Mapping[str, str]) -> Board | None:
        """Return the board of the user who sends a request; None if the request names no user.

        Raises:
            CommandError: the API server does not answer.
        """
        user = await self._authenticate(headers)
        return None if user is None else self._board_of(user)
