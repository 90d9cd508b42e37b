"""Lists and watches one kind through the API server. It is the source of a reflector."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from booking_operator.api.kinds import Kind
from booking_operator.api.meta import WIRE_CONFIG
from booking_operator.engine.reflector import (
    EventType,
    ListPage,
    ListWatchError,
    ResourceExpiredError,
    WatchEvent,
)
from booking_operator.engine.store import Object
from booking_operator.kube.client import KubeClient, Query
from booking_operator.kube.decoding import LARGE_LIST, decode, first_problem
from booking_operator.kube.errors import ApiError, ResponseTooLargeError

T = TypeVar("T")
O = TypeVar("O", bound=Object)  # noqa: E741

PAGE_SIZE = 500
_PAGE_SHRINK_FACTOR = 8  # 500, 62, 7: a response fits seven objects of 1.5 MiB
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _GONE = 400, 403, 404, 410


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _ListMeta:
    resource_version: str = Field(default="", alias="resourceVersion")
    token: str = Field(default="", alias="continue")


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _List(Generic[T]):
    metadata: _ListMeta
    items: list[T]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Changed(Generic[T]):
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: T


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _MetaOnly:
    metadata: _ListMeta


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Bookmark:
    type: Literal["BOOKMARK"]
    object: _MetaOnly


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Status:
    message: str = ""
    code: int = 0


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class _Error:
    type: Literal["ERROR"]
    object: _Status


class ListWatch(Generic[O]):
    """Lists and watches the objects of one kind in one namespace; an empty namespace means all.

    `selector` adds query parameters, such as a field selector.
    """

    def __init__(
        self,
        client: KubeClient,
        kind: Kind[O],
        namespace: str = "",
        selector: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._client = client
        self._selector = selector
        self._kind = kind
        self._namespace = namespace
        self._path = kind.path(namespace)
        self._page_size = PAGE_SIZE
        model: Any = kind.model
        self._list: TypeAdapter[_List[O]] = TypeAdapter(_List[model])
        self._event: TypeAdapter[_Changed[O] | _Bookmark | _Error] = TypeAdapter(
            Annotated[_Changed[model] | _Bookmark | _Error, Field(discriminator="type")]
        )

    async def list(self, token: str = "") -> ListPage[O]:
        """Return one page of a consistent list. Without a resourceVersion, the API server reads from etcd."""
        query = list(self._selector)
        if token:
            query.append(("continue", token))
        with self._translated():
            found = await decode(self._list, await self._page(query), large=LARGE_LIST)
        return ListPage(found.items, found.metadata.resource_version, found.metadata.token)

    async def _page(self, query: Query) -> bytes:
        """Return the body of one page. The page size shrinks until the response fits into memory."""
        while True:
            limit = ("limit", str(self._page_size))
            try:
                answer = await self._client.request("GET", self._path, query=[*query, limit])
            except ResponseTooLargeError:
                if self._page_size == 1:
                    raise
                self._page_size = max(1, self._page_size // _PAGE_SHRINK_FACTOR)
            else:
                self._page_size = min(PAGE_SIZE, self._page_size * 2)
                return answer

    @asynccontextmanager
    async def watch(self, resource_version: str, seconds: int) -> AsyncIterator[AsyncIterator[WatchEvent[O]]]:
        """Watch the events after `resource_version`, with bookmarks."""
        query = [
            *self._selector,
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(seconds)),
        ]
        with self._translated():
            async with (
                self._client.stream(self._path, query) as lines,
                aclosing(self._events(lines)) as events,
            ):
                yield events

    async def _events(self, lines: AsyncIterator[bytes]) -> AsyncGenerator[WatchEvent[O], None]:
        async for line in lines:
            event = await decode(self._event, line)
            if isinstance(event, _Error):
                raise ApiError(event.object.code, event.object.message)
            if isinstance(event, _Bookmark):
                yield WatchEvent(EventType.BOOKMARK, event.object.metadata.resource_version)
            else:
                version = event.object.metadata.resource_version
                yield WatchEvent(EventType(event.type), version, event.object)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            text = f"the API server sent an invalid response: {first_problem(error)}"
            raise ListWatchError(text, needs_relist=True) from error
        except ApiError as error:
            if error.status == _GONE:
                raise ResourceExpiredError(str(error)) from error
            lost = error.status == _BAD_REQUEST  # the server rejects the resourceVersion
            raise ListWatchError(
                self._with_fix(error),
                stale_reason=self._stale_reason(error),
                retry_after=error.retry_after,
                needs_relist=lost,
            ) from error

    def _stale_reason(self, error: ApiError) -> str:
        return self._with_fix(error) if error.status in {_NOT_FOUND, _FORBIDDEN} else ""

    def _with_fix(self, error: ApiError) -> str:
        if error.status == _NOT_FOUND:
            fix = "install the CRDs with `kubectl apply -k manifests/crds`"
            return f"the API server does not serve {self._kind.crd_name}; {fix}"
        if error.status == _FORBIDDEN:
            where = f"in namespace {self._namespace}" if self._namespace else "in all namespaces"
            fix = f"grant list and watch on {self._kind.crd_name} {where}"
            return f"{error}; {fix}"
        return str(error)


async def all_pages(page_of: Callable[[str], Awaitable[ListPage[O]]]) -> list[O]:
    """Return the objects of all pages. `page_of` returns the page for a token; empty for the first one."""
    page = await page_of("")
    items = list(page.items)
    while page.token:
        page = await page_of(page.token)
        items += page.items
    return items
