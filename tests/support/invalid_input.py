"""Hypothesis strategies for invalid, malformed and hostile input."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from booking_operator.api.kinds import KINDS, Kind

FACTOR = int(os.environ.get("HYPOTHESIS_FACTOR", "1"))
"""The factor by which the number of examples exceeds that of the everyday run."""


def budget(examples: int) -> settings:
    """Settings with this number of examples in the everyday run."""
    return settings(max_examples=examples * FACTOR)


TEXTS = st.text(max_size=40) | st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "\x1b[2J",
        "\r\nBcc: eve@example.com",
        "\u202e",
        "\U0001f4a5",
        "e\u0301",
        "null",
        "{tag}",
    ]
)
INTEGERS = st.integers(-(10**12), 10**12) | st.sampled_from([2**31, 2**63, -(2**63), 10**400])
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
DATES = st.sampled_from(
    [
        "2026-01-01T09:00:00Z",
        "2026-01-01T10:00:00+23:59",
        "1970-01-01T00:00:00+23:59",
        "2999-12-31T23:59:59.999999999-23:59",
        "2026-02-29T00:00:00Z",
        "2026-06-30T23:59:60Z",
        "2026-01-01t09:00:00z",
        "2026-01-01T09:00:00-00:00",
        "2026-01-01T24:00:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
    ]
)
WORDS = st.sampled_from(
    ["r", "ada", "ec2", "rds", "web", "Stop", "Leave", "auto", "30s", "24h", "999999h" * 4000, "UTC", "{tag}",
     "RUNNING", "Europe/Berlin", "0 9 * * MON-FRI", "* * * * *", "0 0 29 2 */7", "IN PROGRESS", "FINISHED"]
)  # fmt: skip


def _name(kind: Kind[Any]) -> st.SearchStrategy[str]:
    names = [field.name for model in (kind.spec, kind.status) for field in fields(model)]
    return st.sampled_from([*names, "bookingTemplate", "observedGeneration", "type", "recipient"])


def halves(kind: Kind[Any]) -> st.SearchStrategy[Any]:
    """A spec or status that has the field names of the kind, and arbitrary values."""
    leaf = WORDS | DATES | VALUES
    some = st.dictionaries(_name(kind), leaf | st.lists(leaf, max_size=3), max_size=12)
    nested = st.dictionaries(_name(kind), some | st.lists(some, max_size=3), max_size=2)
    return VALUES | some | st.builds(lambda one, other: {**one, **other}, some, nested)


CONDITIONS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Ready", "Synced"]) | TEXTS,
        "status": st.sampled_from(["True", "False", "Unknown"]),
        "lastTransitionTime": DATES | TEXTS,
    }
)
"""Conditions that are well-formed but otherwise arbitrary."""


def stored(kind: Kind[Any], name: str) -> st.SearchStrategy[dict[str, Any]]:
    """An object with valid metadata, and an arbitrary spec and status."""
    parts = {"spec": halves(kind), "status": halves(kind)}
    return st.fixed_dictionaries({"metadata": st.just(meta(name))}, optional=parts)


def meta(name: str, version: int = 5) -> dict[str, Any]:
    """The metadata of every object."""
    return {
        "name": name,
        "namespace": "ns",
        "uid": f"u-{name}",
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }


TEMPLATE = {"resource_name": "res", "user_id": "ada"}
SPECS: Mapping[str, dict[str, Any]] = {
    "Booking": TEMPLATE | {"start_at": "2026-01-01T09:00:00Z", "end_at": "2026-01-01T10:00:00Z"},
    "BookingScheduler": {"schedule": "0 9 * * *", "duration": 60, "bookingTemplate": TEMPLATE},
    "Resource": {"tag": "web"},
    "ResourceMonitor": {},
}
"""A valid spec of each kind."""


def good(kind: Kind[Any], name: str, version: int = 5) -> dict[str, Any]:
    """A valid object."""
    return {"metadata": meta(name, version), "spec": SPECS[kind.name]}


def page(*items: Any, version: int = 9) -> bytes:
    """A list response of the API server."""
    return json.dumps({"metadata": {"resourceVersion": str(version)}, "items": items}).encode()


kinds = st.sampled_from(KINDS)


def garbled(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` after corruption on the network: truncated, overwritten, or replaced."""
    place = st.integers(0, len(whole))
    insert = st.binary(max_size=12) | st.sampled_from(
        [b'"\\ud800"', b"[" * 300, b"<html>", b"\x00", b"NaN", b"}"]
    )
    return st.one_of(
        place.map(lambda end: whole[:end]),
        st.builds(lambda at, more: whole[:at] + more + whole[at:], place, insert),
        st.builds(lambda at, more: whole[:at] + more + whole[at + len(more) :], place, insert),
        st.builds(lambda one, two: whole[: min(one, two)] + whole[max(one, two) :], place, place),
        st.binary(max_size=60),
        VALUES.map(lambda value: json.dumps(value).encode()),
    )
