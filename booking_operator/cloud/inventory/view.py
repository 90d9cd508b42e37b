"""The known state of the instances of one scope: the last Describe, corrected by later accepted actions.

It neither waits nor reads a clock; `inventory` does both.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from booking_operator.cloud.driver import ActionAnswer, Record
from booking_operator.cloud.inventory.failed_starts import AcceptedStarts
from booking_operator.domain.group import spelling
from booking_operator.domain.instance import Instance, InstanceState, Lock, Observation

CONSISTENCY_LAG = timedelta(seconds=10)
"""How long after the response to an action a Describe may still show the previous state.

EC2 is eventually consistent: what an action has changed "might not be immediately visible to all subsequent
commands" (https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html). The document gives no
bound; a few seconds are usual. If this value is too short, it costs a second, harmless start. If it is too
long, it hides a failed start."""

_RETENTION = timedelta(hours=1)  # of the times of changes; as long as the longest back-off that they end
_TRANSITIONS = frozenset({InstanceState.PENDING, InstanceState.STOPPING})
_AIMS = {InstanceState.PENDING: InstanceState.RUNNING, InstanceState.STOPPING: InstanceState.STOPPED}
"""The final state of an action, by its transitional state."""


@dataclass(frozen=True, slots=True)
class _AcceptedAction:
    """An accepted action that a Describe may not show.

    Attributes:
        outdated_states: the states that show that a Describe does not include the action. They never contain
            the final state of the action.
        state: the state in the response to the action.
        answered_at: when the response arrived (aware UTC).
    """

    outdated_states: frozenset[InstanceState | None]
    state: InstanceState
    answered_at: datetime

    def overrides(self, shown: InstanceState, asked_at: datetime) -> bool:
        """Whether a Describe sent at `asked_at` that shows `shown` is older than this action."""
        age = asked_at - self.answered_at
        return age <= timedelta(0) or (shown in self.outdated_states and age <= CONSISTENCY_LAG)


class InstanceView:
    """The instances of one scope, by group.

    Attributes:
        at: when the last Describe was sent (aware UTC); None before the first.
        managed: tags of the groups with an instance that asks for a Resource.
        spellings: the tags of all groups, by `spelling`.
        starts: the accepted starts and their failures.
    """

    def __init__(self) -> None:
        self.starts = AcceptedStarts()
        self.at: datetime | None = None
        self.managed: frozenset[str] = frozenset()
        self.spellings: Mapping[str, tuple[str, ...]] = {}
        self._groups: dict[str, tuple[Instance, ...]] = {}
        self._left_out: dict[str, tuple[Instance, ...]] = {}
        self._changed_at: dict[str, datetime] = {}
        self._hibernating: frozenset[str] = frozenset()
        self._pools: dict[str, str] = {}
        self._accepted: dict[str, _AcceptedAction] = {}
        self._locks: dict[str, tuple[Lock | None, datetime]] = {}
        self._states: Counter[InstanceState] | None = None

    def observation(self, tag: str) -> Observation | None:
        """Return the group `tag`, empty if it has no instances; None before the first Describe."""
        if self.at is None:
            return None
        similar = tuple(other for other in self.spellings.get(spelling(tag), ()) if other != tag)
        return Observation(self._groups.get(tag, ()), self.at, self._left_out.get(tag, ()), similar)

    def states(self) -> Mapping[InstanceState, int]:
        """Return the number of instances in each state."""
        if self._states is None:
            self._states = Counter(item.state for group in self._groups.values() for item in group)
        return self._states

    def changed_at(self, id_: str) -> datetime | None:
        """Return when a Describe last showed another state of an instance (aware UTC).

        It is None if there was no such change, or if the change was more than an hour ago.
        """
        return self._changed_at.get(id_)

    def pool(self, id_: str) -> str:
        """Return the type and the zone of an instance; empty if unknown."""
        return self._pools.get(id_, "")

    def hibernating(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return those of `ids` that can hibernate."""
        return tuple(id_ for id_ in ids if id_ in self._hibernating)

    def has_transitions(self, tags: Iterable[str]) -> bool:
        """Whether any instance of the groups `tags` is in transition."""
        return any(instance.state in _TRANSITIONS for tag in tags for instance in self._groups.get(tag, ()))

    def update(self, records: Iterable[Record], asked_at: datetime, now: datetime) -> Collection[str]:
        """Apply a Describe that was sent at `asked_at`, and return the tags of the groups that changed.

        Accepted actions from later than `now` are dropped. They are from before the clock was set back, and
        would never expire.
        """
        notes = {id_: note for id_, note in self._accepted.items() if note.answered_at <= now}
        kept: dict[str, _AcceptedAction] = {}
        locks = {
            id_: note for id_, note in self._locks.items() if asked_at - CONSISTENCY_LAG <= note[1] <= now
        }
        members: defaultdict[str, dict[str, Instance]] = defaultdict(dict)
        others: defaultdict[str, dict[str, Instance]] = defaultdict(dict)
        hibernating, managed, pools = set(), set(), {}
        for record in records:
            instance = record.instance
            if record.managed:
                managed.add(record.tag)
            if record.left_out:
                others[record.tag][instance.id] = instance
                continue
            note = notes.get(instance.id)
            if note is not None and note.overrides(instance.state, asked_at):
                kept[instance.id] = note
                instance = replace(instance, state=note.state, start_incomplete=False)
            self.starts.record_state(instance.id, instance.state, record.failure_reason, now)
            if instance.id in locks:
                instance = replace(instance, lock=locks[instance.id][0])
            members[record.tag][instance.id] = instance
            if record.pool:
                pools[instance.id] = sys.intern(record.pool)
            if record.hibernates:
                hibernating.add(instance.id)
        self.starts.forget(now)
        groups, left_out = _sorted(members), _sorted(others)
        before, self._groups, out_before, self._left_out = self._groups, groups, self._left_out, left_out
        self._states = None
        self._note_changes(before, asked_at, now)
        self.at, self._accepted, self._hibernating = asked_at, kept, frozenset(hibernating)
        self.managed, self._locks, self._pools = frozenset(managed), locks, pools
        spellings: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
        for tag in sorted(groups.keys() | left_out.keys()):
            spellings[spelling(tag)] += (tag,)
        self.spellings = dict(spellings)
        return [
            tag
            for tag in before | groups | out_before | left_out
            if (before.get(tag), out_before.get(tag)) != (groups.get(tag), left_out.get(tag))
        ]

    def _note_changes(
        self, before: Mapping[str, Collection[Instance]], asked_at: datetime, now: datetime
    ) -> None:
        """Record which instances have another state or another obstacle than `before`."""
        shown = {instance.id: instance for group in before.values() for instance in group}
        changed = {
            instance.id: asked_at
            for group in self._groups.values()
            for instance in group
            if (known := shown.get(instance.id)) is not None
            and (known.state, known.blocked_reason) != (instance.state, instance.blocked_reason)
        }
        recent = {id_: at for id_, at in self._changed_at.items() if timedelta(0) <= now - at < _RETENTION}
        self._changed_at = recent | changed

    def record_answers(self, tag: str, answers: Mapping[str, ActionAnswer], answered_at: datetime) -> None:
        """Apply the response to an accepted action immediately, for instances of the group `tag`."""
        group = self._groups.get(tag, ())
        shown = {instance.id: instance.state for instance in group}
        states = {id_: answer.now for id_, answer in answers.items() if answer.now is not None}
        for id_, state in states.items():
            outdated = frozenset({answers[id_].before, shown.get(id_)}) - {state, _AIMS.get(state)}
            self._accepted[id_] = _AcceptedAction(outdated, state, answered_at)
            self.starts.record_answer(id_, state, answered_at)
        if group:
            self._states = None
            self._groups[tag] = Observation(group, answered_at).with_states(states).instances

    def record_lock(self, tag: str, ids: Collection[str], lock: Lock | None, written_at: datetime) -> None:
        """Apply written lock tags immediately, for instances of the group `tag`."""
        self._locks |= dict.fromkeys(ids, (lock, written_at))
        group = self._groups.get(tag, ())
        if group:
            self._groups[tag] = tuple(
                replace(instance, lock=lock) if instance.id in ids else instance for instance in group
            )


def _sorted(groups: Mapping[str, Mapping[str, Instance]]) -> dict[str, tuple[Instance, ...]]:
    """Return the instances of each group, sorted by id."""
    return {tag: tuple(map(group.__getitem__, sorted(group))) for tag, group in groups.items()}
