"""All instances of one region as moto describes them, parsed once.

moto needs more than two seconds to describe 1,000 instances. This module therefore keeps its reply, and
inserts the parts that change: states and tags. Pages contain instances, as those of EC2 do. The pages of moto
contain reservations.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
"""The number that EC2 uses for each state."""

_HEAD = b'<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet>'
_FINAL = {"StartInstances": "running", "StopInstances": "stopped"}


@dataclass(slots=True)
class _Member:
    """One instance: `rest` is the constant part of its XML, `state` and `tags` are the parts that change."""

    id: str
    reservation: bytes
    rest: bytes
    state: str
    tags: Mapping[str, str]

    def xml(self, state: str) -> bytes:
        tags = "".join(
            f"<item><key>{escape(key)}</key><value>{escape(value)}</value></item>"
            for key, value in self.tags.items()
        )
        changing = (
            f"<instanceState><code>{CODES[state]}</code><name>{state}</name></instanceState>"
            f"<tagSet>{tags}</tagSet>"
        )
        return b"".join(
            (
                b"<item>",
                self.reservation,
                b"<instancesSet><item>",
                self.rest,
                changing.encode(),
                b"</item></instancesSet></item>",
            )
        )


class Fleet:
    """The instances of one account and region."""

    def __init__(self, members: Iterable[_Member]) -> None:
        self._members = {member.id: member for member in members}

    @classmethod
    def of(cls, pages: Iterable[ET.Element]) -> Self:
        """Parse replies of moto to DescribeInstances. Their XML has no namespaces."""
        return cls(
            _member(reservation, item)
            for page in pages
            for reservation in page.iterfind("reservationSet/item")
            for item in reservation.iterfind("instancesSet/item")
        )

    def took(self, action: str, params: Mapping[str, str]) -> bool:
        """Update the fleet after an action of moto; return False if the fleet must be loaded again."""
        if action in _FINAL:
            ids = values(params, "InstanceId.")
            for id_ in self._members.keys() & set(ids):
                self._members[id_].state = _FINAL[action]
            return self._members.keys() >= set(ids)
        if action not in {"CreateTags", "DeleteTags"}:
            return False
        for id_ in values(params, "ResourceId."):
            if member := self._members.get(id_):
                # A new mapping, because a Describe may read the old one in its thread.
                member.tags = _tagged(member.tags, action, params)
        return True

    def describe(self, params: Mapping[str, str], shown: Callable[[str, str], str]) -> bytes | None:
        """The reply of EC2; None for a request that only moto can answer.

        Args:
            params: the parameters of the request.
            shown: maps the id of an instance and its real state to the state in the reply.
        """
        filters = _filters(params)
        if filters is None:
            return None
        named = set(values(params, "InstanceId."))
        found = [
            (member, state)
            for member in self._members.values()
            if not named or member.id in named
            for state in (shown(member.id, member.state),)
            if all(matches(member, state) for matches in filters)
        ]
        start, size = int(params.get("NextToken", "0")), int(params.get("MaxResults", str(len(found) + 1)))
        rest = len(found) > start + size
        token = f"<nextToken>{start + size}</nextToken>" if rest else ""
        body = b"".join(member.xml(state) for member, state in found[start : start + size])
        tail = f"</reservationSet>{token}</DescribeInstancesResponse>"
        return _HEAD + body + tail.encode()


def values(params: Mapping[str, str], prefix: str) -> tuple[str, ...]:
    """The values of a list parameter of a request, such as `InstanceId.1`."""
    return tuple(value for name, value in params.items() if name.startswith(prefix))


_Matches = Callable[[_Member, str], bool]


def _filters(params: Mapping[str, str]) -> list[_Matches] | None:
    found: list[_Matches] = []
    for number in range(1, len(params) + 1):
        name = params.get(f"Filter.{number}.Name")
        if name is None:
            return found
        wanted = frozenset(values(params, f"Filter.{number}.Value."))
        matches = _filter(name, wanted)
        if matches is None or any("*" in value or "?" in value for value in wanted):
            return None
        found.append(matches)
    return found


def _filter(name: str, wanted: frozenset[str]) -> _Matches | None:
    if name == "tag-key":
        return lambda member, _: not wanted.isdisjoint(member.tags)
    if name == "instance-state-name":
        return lambda _, state: state in wanted
    if name == "instance-id":
        return lambda member, _: member.id in wanted
    if name.startswith("tag:"):
        return lambda member, _: member.tags.get(name[4:]) in wanted
    return None


def _tagged(tags: Mapping[str, str], action: str, params: Mapping[str, str]) -> dict[str, str]:
    changed = dict(tags)
    for name, key in params.items():
        if not (name.startswith("Tag.") and name.endswith(".Key")):
            continue
        value = params.get(name.removesuffix("Key") + "Value")
        if action == "CreateTags":
            changed[key] = value or ""
        elif value is None or tags.get(key) == value:
            # EC2 removes a tag that is passed with a value only if the tag has this value.
            changed.pop(key, None)
    return changed


def _member(reservation: ET.Element, item: ET.Element) -> _Member:
    tags = {tag.findtext("key", ""): tag.findtext("value", "") for tag in item.iterfind("tagSet/item")}
    return _Member(
        id=item.findtext("instanceId", ""),
        reservation=_without(reservation, "instancesSet"),
        rest=_without(item, "instanceState", "tagSet"),
        state=item.findtext("instanceState/name", ""),
        tags=tags,
    )


def _without(element: ET.Element, *names: str) -> bytes:
    return b"".join(ET.tostring(child) for child in element if child.tag not in names)
