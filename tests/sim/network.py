"""What lies between a process and a server: latency, and all that can become of a request or its answer.

A request that has left arrives, whatever becomes of the process that sent it; what was lost on the way back
was done nevertheless. Networks do both, and the operator must expect it.
"""

import random
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from tests.sim.kernel import Kernel, Process

T = TypeVar("T")


class Way(StrEnum):
    """Whether there is a way to the server."""

    OPEN = "open"
    CUT = "cut"
    """Packets vanish: no answer, no error."""
    REFUSED = "refused"
    """Connections are refused at once."""


class NotSentError(Exception):
    """The connection was not made: the server knows nothing of the request."""


class NoReplyError(Exception):
    """The connection broke after the request had left: the server may have done it."""


@dataclass
class Weather:
    """How a link is at present.

    Attributes:
        way: whether anything passes.
        slow: seconds that are added to each direction, at most.
        unsent: the share of requests whose connection is not made.
        unanswered: the share of requests that are done, and whose answer is lost.
        reset: of the lost answers, the share for which the sender gets an error; for the others it waits in
        vain.
    """

    way: Way = Way.OPEN
    slow: float = 0.0
    unsent: float = 0.0
    unanswered: float = 0.0
    reset: float = 0.7

    @property
    def fair(self) -> bool:
        """Whether nothing is wrong."""
        return (self.way, self.slow, self.unsent, self.unanswered) == (Way.OPEN, 0.0, 0.0, 0.0)


class Link:
    """The way from one process to one server.

    Attributes:
        weather: how it is now.
        streams: the connections that last; they are ended when the way is cut.
    """

    def __init__(self, kernel: Kernel, process: Process, seed: str, latency: tuple[float, float]) -> None:
        self.weather = Weather()
        self.process = process
        self.streams: list[Stream] = []
        self._kernel = kernel
        self._random = random.Random(f"{seed}/{process.name}/link")
        self._latency = latency

    def change(self, weather: Weather) -> None:
        """Have other weather from now on. What waits on connections that last goes on, or breaks."""
        was, self.weather = self.weather, weather
        if weather.way is Way.REFUSED:
            self.reset_streams(1.0)
        elif was.way is Way.CUT and weather.way is Way.OPEN:
            self.reset_streams(0.5)
        for stream in list(self.streams):
            stream.flush()

    def reset_streams(self, share: float) -> None:
        """Break a share of the connections that last."""
        for stream in list(self.streams):
            if self._random.random() < share:
                stream.reset()

    def latency(self) -> float:
        """How long one direction takes now, in seconds."""
        return self._random.uniform(*self._latency) + self._random.uniform(0, self.weather.slow)

    async def call(self, serve: Callable[[], T]) -> T:
        """Have `serve` run at the server, and its result, or the error it raises, here.

        Raises:
            NotSentError: the connection was not made.
            NoReplyError: it broke.
        """
        reply: Future[T] = self.process.create_future()
        if not self.process.alive:
            return await reply  # of a process that is dead nothing leaves
        weather, draw = self.weather, self._random.random()
        if weather.way is Way.REFUSED or draw < weather.unsent:
            self._kernel.call_later(self.latency(), lambda: self._answer(reply, NotSentError("refused")))
        elif weather.way is Way.OPEN:
            lost = draw > 1 - weather.unanswered
            self._kernel.call_later(self.latency(), lambda: self._receive_request(serve, reply, lost=lost))
        return await reply

    def _receive_request(self, serve: Callable[[], T], reply: Future[T], *, lost: bool) -> None:
        result: T | Exception
        try:
            result = serve()
        except Exception as error:  # noqa: BLE001 - it is the answer
            result = error
        if lost or self.weather.way is not Way.OPEN:
            if self._random.random() > self.weather.reset:
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
    """A connection on which the server sends one thing after the other; in order, or not at all.

    Attributes:
        closed: whether one of the two has closed it; the server then forgets it.
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
        """Whose it is."""
        return self._link.process

    def send(self, item: bytes | None) -> None:
        """Send one line; None ends it in good order."""
        if self.closed:
            return
        if self._link.weather.way is Way.OPEN:
            self._deliver(item)
        else:
            self._buffered.append(item)
        if item is None:
            self.close()

    def flush(self) -> None:
        """Send what was buffered back, if there is a way again."""
        if self._link.weather.way is Way.OPEN and not self.closed:
            buffered, self._buffered = self._buffered, []
            for item in buffered:
                self._deliver(item)

    def reset(self) -> None:
        """Reset it."""
        if not self.closed:
            self.close()
            self._deliver(NoReplyError("reset"))

    def close(self) -> None:
        """Forget it."""
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
