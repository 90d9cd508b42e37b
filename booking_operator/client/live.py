"""Objects that are kept up to date by list and watch, for commands and pages that go on."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from booking_operator.api.kinds import Kind
from booking_operator.client.cluster import Cluster
from booking_operator.client.errors import CommandError
from booking_operator.engine.clock import SystemClock
from booking_operator.engine.reflector import Reflector
from booking_operator.engine.store import Store
from booking_operator.reconcilers.informers import Informers


class Changes:
    """A counter of the changes in each namespace, for any number of waiting tasks."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()
        self._next = asyncio.Event()

    def number(self, namespace: str = "") -> int:
        """Return how many changes there were in a namespace; in all namespaces if it is empty."""
        return self._numbers[namespace] + self._numbers[""] if namespace else self._numbers.total()

    def notify(self, namespace: str = "") -> None:
        """Count a change of a namespace, or of all if it is empty, and wake all waiting tasks."""
        self._numbers[namespace] += 1
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    async def wait(self, known: int, seconds: float, namespace: str = "") -> int:
        """Wait until a namespace has had more changes than `known`, for `seconds` at most.

        Returns:
            The number of its changes.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.number(namespace) <= known:
                    await self._next.wait()
        return self.number(namespace)


@dataclass(frozen=True, slots=True)
class LiveObjects:
    """Objects that are kept up to date.

    Attributes:
        informers: the objects.
        reflectors: the tasks that keep them up to date.
        changes: counts the changes. The begin and the end of an outage of the API server are changes, too.
    """

    informers: Informers
    reflectors: Sequence[Reflector[Any]]
    changes: Changes = field(default_factory=Changes)
    _unanswered: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        for reflector in self.reflectors:
            reflector.on_failed(partial(self.note_answer, reflector.kind, answered=False))
            reflector.on_recovered(partial(self.note_answer, reflector.kind, answered=True))

    @property
    def synced(self) -> bool:
        """Whether the objects of all kinds have been listed."""
        return all(reflector.has_synced for reflector in self.reflectors)

    @property
    def disconnected(self) -> bool:
        """Whether the API server does not answer for some kind, so that its objects may be old."""
        return bool(self._unanswered)

    def note_answer(self, kind: str, *, answered: bool) -> None:
        """Note whether the last list or watch of a kind was answered."""
        before = self.disconnected
        if answered:
            self._unanswered.discard(kind)
        else:
            self._unanswered.add(kind)
        if self.disconnected is not before:
            self.changes.notify()


@asynccontextmanager
async def live_objects(cluster: Cluster, namespace: str, *kinds: Kind[Any]) -> AsyncIterator[LiveObjects]:
    """Keep some kinds of a namespace up to date; of all namespaces if it is empty.

    The first lists are complete. If the API server goes away later, the reflectors try again.

    Raises:
        CommandError: the first list fails.
    """
    informers = Informers(default_region="")
    stores = {kind: informers.stores[kind] for kind in kinds}
    for kind, store in stores.items():
        store.replace(await cluster.list_objects(kind, namespace))
    async with followed(cluster, namespace, informers, stores) as live:
        yield live


@asynccontextmanager
async def followed(
    cluster: Cluster, namespace: str, informers: Informers, stores: Mapping[Kind[Any], Store[Any]]
) -> AsyncIterator[LiveObjects]:
    """Keep some stores up to date with a namespace; with all namespaces if it is empty.

    Nothing may be listed yet, and the reflectors try again until the API server answers.
    """
    reflectors = [
        Reflector(kind.plural, cluster.list_watch(kind, namespace), store, SystemClock())
        for kind, store in stores.items()
    ]
    live = LiveObjects(informers, reflectors)
    for store in stores.values():
        store.subscribe(lambda change: live.changes.notify(change.key.namespace))
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(reflector.run()) for reflector in reflectors]
            try:
                yield live
            finally:
                for task in running:
                    task.cancel()
    except BaseExceptionGroup as group:
        raise _first_error(group) from group


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run requests at the same time and return their results.

    If several fail, the error is that of the first one in the order of the arguments, so that the message of
    a command does not depend on which answer arrives first.
    """
    async with asyncio.TaskGroup() as tasks:
        outcomes = [tasks.create_task(_outcome(item)) for item in work]
    found = [task.result() for task in outcomes]
    for _, error in found:
        if error is not None:
            raise error
    return [result for result, _ in found]


async def _outcome(work: Coroutine[Any, Any, Any]) -> tuple[Any, CommandError | None]:
    try:
        return await work, None
    except CommandError as error:
        return None, error


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group that is not a group itself."""
    error = group.exceptions[0]
    return _first_error(error) if isinstance(error, BaseExceptionGroup) else error
