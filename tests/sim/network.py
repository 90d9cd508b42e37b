"""The links between processes and servers: latency, and loss of requests and responses.

A request in flight reaches the server even if its sender is killed. If a response is lost, the server has
still carried out the request.
"""

import random
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from tests.sim.kernel import Kernel, Process

T = TypeVar("T")


class LinkState(StrEnum):
    """Whether packets pass a link."""

    OPEN = "open"
    CUT = "cut"
    """Packets are dropped silently."""
    REFUSED = "refused"
    """Connections are refused immediately."""


class NotSentError(Exception):
    """The connection failed: the server did not receive the request."""


class NoReplyError(Exception):
    """The connection broke after the request was sent: the server may have carried it out."""


@dataclass
class LinkFaults:
    """The current faults of a link.

    Attributes:
        state: whether packets pass.
        delay: the maximum added latency of each direction, in seconds.
        refused: the share of requests whose connection fails.
        lost: the share of requests that the server carries out but whose response is lost.
        reset: the share of lost responses for which the sender gets an error. For the others it waits until
            its timeout.
    """

    state: LinkState = LinkState.OPEN
    delay: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    reset: float = 0.7


class Link:
    """The link from one process to one server.

    Attributes:
        faults: the current faults.
        process: the process.
        streams: the open streams.
    """

    def __init__(self, kernel: Kernel, process: Process, seed: str, latency: tuple[float, float]) -> None:
        self.faults = LinkFaults()
        self.process = process
        self.streams: list[Stream] = []
        self._kernel = kernel
        self._random = random.Random(f"{seed}/{process.name}/link")
        self._latency = latency

    def change(self, faults: LinkFaults) -> None:
        """Set the faults.

        A link that becomes REFUSED resets all streams. A link that changes from CUT to OPEN resets half of
        them.
        """
        before, self.faults = self.faults, faults
        if faults.state is LinkState.REFUSED:
            self.reset_streams(1.0)
        elif before.state is LinkState.CUT and faults.state is LinkState.OPEN:
            self.reset_streams(0.5)
        for stream in list(self.streams):
            stream.flush()

    def reset_streams(self, share: float) -> None:
        """Reset a random share of the streams."""
        for stream in list(self.streams):
            if self._random.random() < share:
                stream.reset()

    def latency(self) -> float:
        """Return the latency of one direction, in seconds."""
        return self._random.uniform(*self._latency) + self._random.uniform(0, self.faults.delay)

    async def call(self, serve: Callable[[], T]) -> T:
        """Run `serve` at the server and return its result, or raise its error.

        Raises:
            NotSentError: the connection failed.
            NoReplyError: the connection broke after the request was sent.
        """
        reply: Future[T] = self.process.create_future()
        if not self.process.alive:
            return await reply  # a dead process sends nothing
        faults, draw = self.faults, self._random.random()
        if faults.state is LinkState.REFUSED or draw < faults.refused:
            self._kernel.call_later(self.latency(), lambda: self._answer(reply, NotSentError("refused")))
        elif faults.state is LinkState.OPEN:
            lost = draw > 1 - faults.lost
            self._kernel.call_later(self.latency(), lambda: self._receive_request(serve, reply, lost=lost))
        return await reply

    def _receive_request(self, serve: Callable[[], T], reply: Future[T], *, lost: bool) -> None:
        result: T | Exception
        try:
            result = serve()
        except Exception as error:  # noqa: BLE001 - it is the answer
            result = error
        if lost or self.faults.state is not LinkState.OPEN:
            if self._random.random() > self.faults.reset:
                return
            result = NoReplyError("reset")
        self._kernel.call_later(self.latency(), lambda: self._answer(reply, result))

    def _answer(self, reply: Future[T], result: T | Exception) -> None:
        if not self.process.alive:
            return
        self.process.call_soon(_settle, reply, result)


def _settle(reply: Future[Any], result: Any) -> None:
    if reply.done():
        return
    if isinstance(result, Exception):
        reply.set_exception(result)
    else:
        reply.set_result(result)


class Stream:
    """A long-lived connection on which the server sends lines in order.

    Attributes:
        closed: whether either side has closed it.
    """

    def __init__(
        self, kernel: Kernel, link: Link, receive: Callable[[bytes | Exception | None], None]
    ) -> None:
        self.closed = False
        self._kernel = kernel
        self._link = link
        self._receive = receive
        self._buffered: list[bytes | Exception | None] = []
        self._last = 0.0
        link.streams.append(self)

    @property
    def process(self) -> Process:
        """The process that receives."""
        return self._link.process

    def send(self, item: bytes | None) -> None:
        """Send one line, or buffer it while the link is not open. None ends the stream without an error."""
        if self.closed:
            return
        if self._link.faults.state is LinkState.OPEN:
            self._deliver(item)
        else:
            self._buffered.append(item)
        if item is None:
            self.close()

    def flush(self) -> None:
        """Send the buffered lines if the link is open."""
        if self._link.faults.state is LinkState.OPEN and not self.closed:
            buffered, self._buffered = self._buffered, []
            for item in buffered:
                self._deliver(item)

    def reset(self) -> None:
        """Close the stream, with an error at the receiver."""
        if not self.closed:
            self.close()
            self._deliver(NoReplyError("reset"))

    def close(self) -> None:
        """Close the stream."""
        self.closed = True
        if self in self._link.streams:
            self._link.streams.remove(self)

    def _deliver(self, item: bytes | Exception | None) -> None:
        self._last = max(self._last, self._kernel.now + self._link.latency())
        self._kernel.call_at(self._last, lambda: self._arrive(item))

    def _arrive(self, item: bytes | Exception | None) -> None:
        process = self._link.process
        if process.alive:
            process.call_soon(self._receive, item)
