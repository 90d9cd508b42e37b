"""The cluster as a person uses it: reads and writes with the person's own permissions.

Each refusal becomes a `CommandError` whose hint has the fix, such as the role that has a missing permission.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, CALENDAR_FEED, Kind
from booking_operator.api.meta import GROUP
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.engine.clock import Clock
from booking_operator.engine.reflector import ListWatchError, ResourceExpiredError
from booking_operator.engine.store import Object
from booking_operator.kube.client import JSON_PATCH, KubeClient, Query
from booking_operator.kube.errors import ApiError
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.kube.list_watch import PAGE_SIZE, ListWatch, all_pages

O = TypeVar("O", bound=Object)  # noqa: E741
T = TypeVar("T")

_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429
MAX_RETRIES = 10
"""How often a request is sent again when the API server asks for a pause; the number of client-go."""

VIEW_ROLE, EDIT_ROLE, ADMIN_ROLE = "booking-operator-view", "booking-operator-edit", "booking-operator-admin"
"""The roles of manifests/components/tenant-roles."""
_READS = frozenset({"get", "list", "watch"})


@dataclass(frozen=True, slots=True)
class CoreKind:
    """A kind of Kubernetes itself, by its plural name."""

    plural: str


PODS = CoreKind("pods")


@dataclass(frozen=True, slots=True)
class Permission:
    """A verb on the objects of one kind in a namespace; in all namespaces if `namespace` is empty."""

    verb: str
    kind: Kind[Any] | CoreKind
    namespace: str

    @property
    def role(self) -> str:
        """The role that has this permission; empty for kinds of Kubernetes itself."""
        if isinstance(self.kind, CoreKind):
            return ""
        if self.verb in _READS:
            return VIEW_ROLE
        return EDIT_ROLE if self.kind in {BOOKING, BOOKING_SCHEDULER, CALENDAR_FEED} else ADMIN_ROLE

    @property
    def attributes(self) -> dict[str, str]:
        """The permission in terms of an access review of the API server."""
        group = "" if isinstance(self.kind, CoreKind) else GROUP
        found = {"verb": self.verb, "group": group, "resource": self.kind.plural}
        return found | {"namespace": self.namespace}

    @property
    def place(self) -> str:
        """The namespace as text."""
        return f"namespace {self.namespace}" if self.namespace else "all namespaces"


@dataclass(frozen=True, slots=True)
class UserInfo:
    """A user, as the API server knows it: the name and the groups."""

    name: str
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "UserInfo":
        """Return the user in `status.user` or `status.userInfo` of a review."""
        return cls(str(answer.get("username", "")), tuple(map(str, answer.get("groups") or ())))


@dataclass(frozen=True, slots=True)
class Impersonation:
    """The user and the groups to impersonate, as `kubectl --as` and `--as-group`."""

    user: str = ""
    groups: Sequence[str] = ()

    @property
    def headers(self) -> Query:
        """The request headers."""
        user = (("Impersonate-User", self.user),) if self.user else ()
        return (*user, *(("Impersonate-Group", group) for group in self.groups))


class Cluster:
    """The API server, for one person."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        config: ClusterConfig,
        clock: Clock,
        impersonation: Impersonation,
        user_agent: str = "kubectl-booking",
    ) -> AsyncGenerator["Cluster", None]:
        """Open the connection pool.

        Raises:
            ConfigError: there is no usable kubeconfig.
        """
        headers = (("User-Agent", user_agent), *impersonation.headers)
        async with KubeClient(config, clock, headers=headers) as client:
            yield cls(client, clock)

    async def list_objects(self, kind: Kind[O], namespace: str, selector: Query = ()) -> list[O]:
        """Return all objects of a kind in a namespace; in all namespaces if it is empty.

        Raises:
            CommandError: the API server does not answer, or refuses the request.
        """
        source = self.list_watch(kind, namespace, selector)
        try:
            return await all_pages(lambda token: self._retried(lambda: source.list(token)))
        except (ListWatchError, ResourceExpiredError) as error:
            cause = error.__cause__
            if isinstance(cause, ApiError):
                raise explained(cause, Permission("list", kind, namespace)) from error
            raise CommandError(str(error), hint="try again") from error

    async def list_raw(self, kind: Kind[Any], namespace: str, selector: Query = ()) -> list[dict[str, Any]]:
        """Return all objects of a kind as parsed JSON.

        Raises:
            CommandError: the API server does not answer, or refuses the request.
        """
        items, token = list[dict[str, Any]](), ""
        while True:
            query = [("limit", str(PAGE_SIZE)), *selector, *([("continue", token)] if token else [])]
            try:
                page = _parsed(await self._request("GET", kind.path(namespace), query=query))
            except ApiError as error:
                raise explained(error, Permission("list", kind, namespace)) from error
            items += page.get("items", [])
            token = page.get("metadata", {}).get("continue", "")
            if not token:
                return items

    async def _request(self, method: str, path: str, **more: Any) -> bytes:
        return await self._retried(lambda: self._client.request(method, path, **more))

    async def _retried(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send a request. If the API server asks for a pause, send it again, as client-go does."""
        for _ in range(MAX_RETRIES):
            try:
                return await send()
            except (ApiError, ListWatchError) as error:
                # A write that the API server may have begun is not repeated.
                refused = isinstance(error, ListWatchError) or error.status == _TOO_MANY_REQUESTS
                if not (refused and error.retry_after):
                    raise
                await self._clock.sleep(error.retry_after)
        return await send()

    def list_watch(self, kind: Kind[O], namespace: str, selector: Query = ()) -> ListWatch[O]:
        """Return the source of a reflector."""
        return ListWatch(self._client, kind, namespace, selector)

    async def get(self, kind: Kind[O], namespace: str, name: str) -> O | None:
        """Return one object; None if it does not exist.

        Raises:
            CommandError: the API server does not answer, or refuses the request.
        """
        raw = await self.get_raw(kind, namespace, name)
        return None if raw is None else kind.adapter.validate_python(raw)

    async def get_raw(self, kind: Kind[Any], namespace: str, name: str) -> dict[str, Any] | None:
        """Return one object as parsed JSON; None if it does not exist.

        Raises:
            CommandError: the API server does not answer, or refuses the request.
        """
        try:
            answer = await self._request("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.not_found and error.reason == "NotFound":
                return None
            raise explained(error, Permission("get", kind, namespace)) from error
        return _parsed(answer)

    async def create(
        self, kind: Kind[Any], namespace: str, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any] | None:
        """Create an object and return it; None if an object with its name exists.

        Raises:
            CommandError: the API server does not answer, or refuses the request.
        """
        query = (("dryRun", "All"),) if dry_run else ()
        try:
            answer = await self._request("POST", kind.path(namespace), query=query, body=dict(body))
        except ApiError as error:
            if error.already_exists:
                return None
            raise explained(error, Permission("create", kind, namespace)) from error
        return _parsed(answer)

    async def patch(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Apply a JSON Patch and return the object.

        Raises:
            CommandError: the API server does not answer, or refuses the request. The exit code is `CHANGED`
                if a `test` of the patch failed.
        """
        query = (("dryRun", "All"),) if dry_run else ()
        try:
            answer = await self._request(
                "PATCH",
                kind.path(namespace, name),
                query=query,
                body=list(operations),
                content_type=JSON_PATCH,
            )
        except ApiError as error:
            if error.conflict or await self._test_failed(kind, namespace, name, operations, error):
                raise changed(kind, name) from error
            raise explained(error, Permission("patch", kind, namespace), name) from error
        return _parsed(answer)

    async def _test_failed(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        error: ApiError,
    ) -> bool:
        """Whether a refused patch failed because of one of its tests.

        The API server answers 422 for that, as for an invalid object.
        """
        if not error.invalid:
            return False
        found = await self.get_raw(kind, namespace, name)
        tests = [operation for operation in operations if operation["op"] == "test"]
        return found is not None and any(
            _at(found, operation["path"]) != operation["value"] for operation in tests
        )

    async def delete(self, kind: Kind[Any], object_: Object, *, dry_run: bool = False) -> None:
        """Delete an object if it is unchanged.

        Raises:
            CommandError: the API server does not answer, or refuses the request. The exit code is `CHANGED`
                if the object has changed, `NOT_FOUND` if it does not exist.
        """
        meta = object_.metadata
        preconditions = {"uid": meta.uid, "resourceVersion": meta.resource_version}
        body = {"preconditions": preconditions} | ({"dryRun": ["All"]} if dry_run else {})
        try:
            await self._request("DELETE", kind.path(meta.namespace, meta.name), body=body)
        except ApiError as error:
            if error.conflict:
                raise changed(kind, meta.name) from error
            raise explained(error, Permission("delete", kind, meta.namespace), meta.name) from error

    async def user(self) -> UserInfo:
        """Return the user, as the API server knows it.

        Raises:
            CommandError: the API server does not answer, or does not say.
        """
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = await self._request(
                "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body
            )
        except ApiError as error:
            if error.not_found or error.permission_missing:
                text = f"the API server does not say who you are: {error}"
                raise CommandError(text, hint="it needs Kubernetes 1.28 or newer") from error
            raise explained(error) from error
        return UserInfo.of(_parsed(answer).get("status", {}).get("userInfo", {}))

    async def user_of(self, token: str) -> UserInfo | None:
        """Return the user of a bearer token, by a TokenReview; None if the token is not valid.

        Raises:
            CommandError: the API server does not answer, or refuses the request.
        """
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        try:
            answer = await self._request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=body)
        except ApiError as error:
            raise explained(error) from error
        status = _parsed(answer).get("status", {})
        return UserInfo.of(status.get("user", {})) if status.get("authenticated") else None

    async def may(self, user: UserInfo, permission: Permission) -> bool:
        """Return whether another user has a permission, by a SubjectAccessReview.

        Raises:
            CommandError: the API server does not answer, or refuses the request.
        """
        spec = {"user": user.name, "groups": user.groups, "resourceAttributes": permission.attributes}
        try:
            return await self._review("SubjectAccessReview", spec)
        except ApiError as error:
            raise explained(error) from error

    async def allowed(self, permissions: Collection[Permission]) -> dict[Permission, bool]:
        """Return which permissions the user has, by SelfSubjectAccessReviews."""
        async with asyncio.TaskGroup() as tasks:
            reviews = {item: tasks.create_task(self._may(item)) for item in permissions}
        return {item: review.result() for item, review in reviews.items()}

    async def _may(self, permission: Permission) -> bool:
        try:
            return await self._review(
                "SelfSubjectAccessReview", {"resourceAttributes": permission.attributes}
            )
        except ApiError:
            return True  # the request itself will say whether it is allowed

    async def _review(self, kind: str, spec: Mapping[str, Any]) -> bool:
        """Return whether an access review allows a request."""
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
        answer = await self._request("POST", path, body=body)
        return bool(_parsed(answer).get("status", {}).get("allowed"))


def changed(kind: Kind[Any], name: str) -> CommandError:
    """Return the error for an object that has changed since it was read."""
    text = f"{kind.name.lower()} {name} has changed since it was read; nothing was written"
    return CommandError(text, hint="look at it again, and repeat the command", code=ExitCode.CHANGED)


def explained(error: ApiError, permission: Permission | None = None, name: str = "") -> CommandError:
    """Return the error of a request as a message with the fix."""
    kind, text = permission.kind if permission else None, str(error)
    if error.status == 0:
        hint = "check the address in the kubeconfig and the network: kubectl cluster-info"
        return CommandError(text, hint=hint)
    if error.status == _UNAUTHORIZED:
        text = f"the API server does not accept the credentials of the kubeconfig: {error}"
        return CommandError(text, hint="log in to the cluster again, as for other kubectl commands")
    if error.permission_missing and permission is not None:
        return forbidden(permission)
    if error.forbidden:
        return CommandError(f"the cluster refuses the request: {error}", code=ExitCode.FORBIDDEN)
    if error.not_found and permission is not None and isinstance(kind, Kind):
        if name and error.reason == "NotFound":
            text = f"{kind.name.lower()} {name} does not exist in {permission.place}"
            return CommandError(text, code=ExitCode.NOT_FOUND)
        if error.reason == "NotFound":  # of a namespace
            return CommandError(text, hint="name another namespace with -n", code=ExitCode.NOT_FOUND)
        text = f"the cluster does not serve {kind.crd_name}"
        hint = "ask an administrator to install the booking operator: kubectl apply -k manifests/crds"
        return CommandError(text, hint=hint, code=ExitCode.NOT_FOUND)
    return CommandError(text, hint="try again" if error.status >= 500 else "")  # noqa: PLR2004 - server errors


def forbidden(permission: Permission, user: str = "you") -> CommandError:
    """Return the error for a missing permission, with who may grant it."""
    text = f"{user} may not {permission.verb} {permission.kind.plural} in {permission.place}"
    hint = f"ask an administrator for the role {permission.role} there"
    if permission.verb in _READS and not permission.namespace:
        hint += ", or name a namespace with -n"
    return CommandError(text, hint=hint, code=ExitCode.FORBIDDEN)


def _parsed(answer: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(answer)
    except ValueError as error:
        raise CommandError(f"the API server sent an invalid response: {error}") from error
    if not isinstance(parsed, dict):
        raise CommandError("the API server sent an invalid response: not a JSON object")
    return parsed


def _at(object_: Mapping[str, Any], pointer: str) -> Any:
    """Return the value at a JSON Pointer without escapes; None if there is none."""
    found: Any = object_
    for part in pointer.split("/")[1:]:
        found = found.get(part) if isinstance(found, dict) else None
    return found
