"""Faults of AWS: scripted, at random, by account, and by instance.

This module does no I/O. A test sets the faults, and `Faults` decides for each call.
"""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from tests.support import aws_errors

ZONES = ("a", "b", "c")
"""The zones of each region."""

Outage = Literal["error", "reset", "hang"]


class CallLike(Protocol):
    """The attributes of a call that `Faults` reads."""

    @property
    def action(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    @property
    def instance_ids(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that happens to one request.

    `refuse` answers with an error. `drop` resets the connection before AWS sees the request. `lose` resets it
    after the request was carried out. `hang` never answers.
    """

    kind: Literal["refuse", "drop", "lose", "hang"]
    status: int = 0
    body: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """The instance type and zone of an instance; EC2 counts capacity by both."""

    instance_type: str
    zone: str


@dataclass(slots=True)
class _Storm:
    throttled: float
    reset: float
    chance: random.Random

    def strikes(self, action: str) -> Fault | None:
        drawn = self.chance.random()
        if drawn < self.throttled:
            return throttled(action)
        if drawn < self.throttled + self.reset:
            return Fault(self.chance.choice(("drop", "lose")))
        return None


class Faults:
    """The faults of AWS. A test may change them at any time.

    Attributes:
        places: type and zone of each instance, for `exhaust`.
    """

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self._scripted: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._storm: _Storm | None = None
        self._down: dict[str, Outage] = {}
        self._unstoppable: dict[str, str] = {}
        self._cursed: defaultdict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        self._room: dict[Place, int] = {}

    def fail(
        self,
        action: str,
        *,
        times: int = 1,
        code: str = "RequestLimitExceeded",
        message: str = "Request limit exceeded.",
        status: int | None = None,
    ) -> None:
        """Refuse the next `times` requests of the action with an error in the format of its service."""
        self._scripted[action].extend([refusal(code, message, action, status)] * times)

    def fail_raw(self, action: str, *, status: int, body: str, times: int = 1) -> None:
        """Answer the next `times` requests of the action with the given status and body."""
        self._scripted[action].extend([Fault("refuse", status, body)] * times)

    def drop(self, action: str, *, times: int = 1) -> None:
        """Reset the connection of the next `times` requests of the action before AWS sees them."""
        self._scripted[action].extend([Fault("drop")] * times)

    def lose_reply(self, action: str, *, times: int = 1) -> None:
        """Carry out the next `times` requests of the action, then reset the connection."""
        self._scripted[action].extend([Fault("lose")] * times)

    def clear_scripted(self) -> None:
        """Forget the faults of `fail`, `fail_raw`, `drop` and `lose_reply` that have not happened yet."""
        self._scripted.clear()

    def storm(self, *, throttled: float = 0.0, reset: float = 0.0, seed: int = 0) -> None:
        """From now on, throttle the share `throttled` of all calls, and reset the share `reset`.

        Half of the resets happen before AWS sees the request, half after the request was carried out.
        """
        self._storm = _Storm(throttled, reset, random.Random(seed))

    def calm(self) -> None:
        """End `storm`."""
        self._storm = None

    def down(self, account: str, how: Outage = "error") -> None:
        """Let all calls of one account or access key fail: with 503, with a reset, or without an answer."""
        self._down[account] = how

    def up(self, account: str) -> None:
        """End `down` for later calls. Calls without an answer keep waiting until the client's timeout."""
        self._down.pop(account, None)

    def exhaust(self, instance_type: str, zone: str, room: int = 0) -> None:
        """Leave capacity for only `room` more starts of a type in a zone. A call with more fails whole."""
        self._room[Place(instance_type, zone)] = room

    def replenish(self, instance_type: str, zone: str) -> None:
        """End `exhaust`."""
        self._room.pop(Place(instance_type, zone), None)

    def protect(self, ids: Collection[str], code: str = "OperationNotPermitted") -> None:
        """Refuse to stop these instances, with one of the codes of `aws_errors.CANNOT_STOP`.

        The message names one of the instances.
        """
        if code not in aws_errors.CANNOT_STOP:
            raise ValueError(f"code is {code!r}; take one of {', '.join(aws_errors.CANNOT_STOP)}")
        self._unstoppable |= dict.fromkeys(ids, code)

    def curse(
        self,
        ids: Collection[str],
        action: str,
        *,
        code: str = "UnsupportedOperation",
        message: str = "The operation is not supported for one of the instances in the request.",
    ) -> None:
        """Refuse the action for calls with any of these instances, with a message that names no instance."""
        self._cursed[action] |= dict.fromkeys(ids, (code, message))

    def pardon(self, ids: Collection[str]) -> None:
        """End `protect` and `curse` for these instances."""
        for id_ in ids:
            self._unstoppable.pop(id_, None)
            for cursed in self._cursed.values():
                cursed.pop(id_, None)

    def at_the_door(self, call: CallLike) -> Fault | None:
        """The fault of a call that does not depend on its parameters: outage, scripted fault, or storm."""
        how = self._down.get(call.account) or self._down.get(call.access_key)
        if how is not None:
            outage = refusal("Unavailable", "The service is unavailable. Please try again.", call.action)
            return {"error": outage, "reset": Fault("drop"), "hang": Fault("hang")}[how]
        if scripted := self._scripted[call.action]:
            return scripted.popleft()
        return self._storm.strikes(call.action) if self._storm else None

    def on_merit(self, call: CallLike) -> Fault | None:
        """The error with which EC2 refuses a call because of the instances that it names."""
        cursed = self._cursed[call.action]
        for id_ in call.instance_ids:
            if id_ in cursed:
                return refusal(*cursed[id_], call.action)
            if call.action == "StopInstances" and id_ in self._unstoppable:
                code = self._unstoppable[id_]
                return refusal(code, aws_errors.CANNOT_STOP[code].format(id_), call.action)
        if call.action == "StartInstances":
            return self._without_capacity(call)
        return None

    def _without_capacity(self, call: CallLike) -> Fault | None:
        asked = Counter(self.places[id_] for id_ in call.instance_ids if id_ in self.places)
        for place, number in asked.items():
            if number > self._room.get(place, number):
                others = [place.zone[:-1] + letter for letter in ZONES if letter != place.zone[-1]]
                text = aws_errors.insufficient_capacity(place.instance_type, place.zone, others)
                return refusal("InsufficientInstanceCapacity", text, call.action)
        for place in self._room.keys() & asked.keys():
            self._room[place] -= asked[place]
        return None


def refusal(code: str, message: str, action: str, status: int | None = None) -> Fault:
    """A fault that answers with an error in the format of the action's service."""
    body = aws_errors.body_of(code, message, action)
    return Fault("refuse", status or aws_errors.status_of(code), body)


def throttled(action: str) -> Fault:
    """The throttling error of the action's service."""
    if aws_errors.is_json(action):
        return refusal("ThrottlingException", "Rate exceeded", action)
    if aws_errors.is_query(action):
        return refusal("Throttling", "Rate exceeded", action)
    return refusal("RequestLimitExceeded", "Request limit exceeded.", action)
