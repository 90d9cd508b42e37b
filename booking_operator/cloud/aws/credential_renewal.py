"""Renews credentials ahead of time, with one renewal that all callers share.

botocore renews credentials while it signs a request. The first caller waits for STS, although the current
credentials may be valid for minutes. After a failure, each waiting caller calls STS again, one after the
other. This module avoids both:
- A renewal is a separate task. While the current credentials are valid, no caller waits for it.
- At most one renewal is in flight. All waiting callers share it, and a cancelled caller does not cancel it.
- A failure goes to all callers during the back-off after it, without another call. This includes an exception
  that no rule covers.
"""

import asyncio
from asyncio import Task, TaskGroup
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials

from booking_operator.cloud.aws.accounts import Account, Accounts
from booking_operator.cloud.aws.credentials import Load, Source, Sts, load_own, load_role
from booking_operator.cloud.aws.errors import translate_errors
from booking_operator.cloud.driver import CloudError
from booking_operator.cloud.instrumentation import measured, unexpected
from booking_operator.domain.group import Scope
from booking_operator.engine.clock import Clock
from booking_operator.engine.workqueue import Backoff
from booking_operator.metrics import NO_METRICS, CloudMetrics, FailedPart

RENEW_BEFORE_EXPIRY = timedelta(minutes=15)
"""Credentials are renewed this long before they expire, as in botocore."""
MIN_REMAINING_LIFETIME = timedelta(minutes=1)
"""Credentials with less time left are not used, because a request may be in transit for a while."""
RENEWAL_TIMEOUT = timedelta(seconds=30)
"""Timeout of one renewal, after the credentials that sign it are available. The timeouts of the clients are
per read, and botocore calls some endpoints three times."""
MIN_RENEWAL_INTERVAL = timedelta(minutes=1)
"""Minimum time between successful renewals: an endpoint may return the same expiring credentials again."""
# The maximum is below the longest back-off of `inventory`, so that each of its calls then tries again.
_BACKOFF = Backoff(initial=timedelta(seconds=2), maximum=timedelta(seconds=55))

# EC2 also responds with RequestExpired if the credentials have expired:
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
# STS answers ExpiredToken: https://github.com/boto/boto3/issues/1431
_REFUSED_CREDENTIALS = frozenset(
    {"AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "RequestExpired"}
)
_CLOSED = CloudError("Closed", "The operator is shutting down.")


@dataclass(frozen=True, slots=True)
class _LoadedCredentials:
    """Loaded credentials, and the source that knows their expiry."""

    frozen: ReadOnlyCredentials
    source: Source

    def good_for(self, time: timedelta) -> bool:
        """Whether they are valid for at least `time`."""
        if not isinstance(self.source, RefreshableCredentials):
            return True
        return not self.source.refresh_needed(int(time.total_seconds()))


class RenewedCredentials(AioCredentials):
    """One set of credentials for the clients of botocore. Its renewals are tasks of `tasks`.

    Args:
        owner: the owner, as the beginning of a message.
        action: the call that loads them, in the form that `translate_errors` takes.
        load: loads the credentials.
        clock: the clock.
        tasks: the task group of the renewals.
        observed: measures one load; by default it is not measured, because it is not an AWS call.
        metrics: counts exceptions that no rule covers.
        by: the credentials that sign a load; None if no `RenewedCredentials` sign it. The wait for them is
            not part of the timeout.
    """

    def __init__(  # noqa: PLR0913 - three of them have defaults
        self,
        owner: str,
        action: str,
        load: Load,
        clock: Clock,
        tasks: TaskGroup,
        *,
        observed: Callable[[], AbstractContextManager[None]] = nullcontext,
        metrics: CloudMetrics = NO_METRICS,
        by: "RenewedCredentials | None" = None,
    ) -> None:
        super().__init__("", "", method="booking-operator")  # the keys are only in `_held`
        self._owner = owner
        self._action = action
        self._load = load
        self._clock = clock
        self._tasks = tasks
        self._observed = observed
        self._metrics = metrics
        self._by = by
        self._held: _LoadedCredentials | None = None
        self._renewal: Task[None] | None = None
        self._ended_at: datetime | None = None
        self._failures = 0
        self._failure: CloudError | None = None
        self._log = structlog.get_logger()

    async def load_credentials(self) -> "RenewedCredentials":
        """Return this object: botocore uses it in place of its credential chain."""
        return self

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:  # type: ignore[override]
        """Return the credentials for a request. While they are valid, this does not wait.

        Raises:
            CloudError: there are no credentials, or AWS refuses to issue them; the message names the account.
        """
        held = self._held
        if held is not None and held.good_for(RENEW_BEFORE_EXPIRY):
            return held.frozen
        usable = held is not None and held.good_for(MIN_REMAINING_LIFETIME)
        if not self._resting() or not (usable or self._failures):
            self._begin()
        if held is not None and usable:
            return held.frozen
        if self._renewal is not None:
            await asyncio.wait({self._renewal})
        if self._held is None or self._failure is not None:
            error = self._failure or _CLOSED
            # Raise a copy: one exception raised in many tasks would accumulate all their tracebacks.
            raise CloudError(error.reason, str(error), retryable=error.retryable) from error
        return self._held.frozen

    def sign_for(self, session: AioSession) -> None:
        """Let the clients of `session` sign with these credentials, and renew them when AWS refuses them."""
        session.register_component("credential_provider", self)

        def after_call(parsed: Mapping[str, Any], **_: Any) -> None:
            if parsed.get("Error", {}).get("Code") in _REFUSED_CREDENTIALS:
                self.reject()

        session.register("after-call", after_call)

    def reject(self) -> None:
        """Start a renewal after AWS refused the credentials, unless they are new.

        The current credentials stay in use until then. Perhaps only one region refuses them, because the
        account has not enabled it, and any tenant may name a region.
        """
        if not self._resting():
            self._begin()

    def cancel(self) -> None:
        """Cancel the renewal. Callers that wait for it get an error."""
        if self._renewal is not None:
            self._renewal.cancel()

    def _resting(self) -> bool:
        """Whether the last renewal ended so recently that another one would be useless."""
        if self._ended_at is None:
            return False
        pause = _BACKOFF.after(self._failures) if self._failures else MIN_RENEWAL_INTERVAL
        # An end in the future is from before the clock was set back.
        return self._ended_at <= self._clock.now() < self._ended_at + pause

    def _begin(self) -> None:
        """Start a renewal, unless one is in flight."""
        if self._renewal is None or self._renewal.done():
            self._renewal = self._tasks.create_task(self._renew(), name="credential renewal")

    async def _renew(self) -> None:
        try:
            self._held = await self._loaded()
        except CloudError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - all accounts share the task group
            self._failed(
                unexpected(self._metrics, FailedPart.CREDENTIALS, self._action, error, owner=self._owner)
            )
        else:
            if self._failures:
                self._log.info("credentials_renewed", owner=self._owner)
            self._failures, self._failure = 0, None
        self._ended_at = self._clock.now()

    async def _loaded(self) -> _LoadedCredentials:
        if self._by is not None:
            await self._by.get_frozen_credentials()
        with self._observed(), translate_errors(self._action):
            try:
                async with asyncio.timeout(RENEWAL_TIMEOUT.total_seconds()):
                    source = await self._load()
                    held = _LoadedCredentials(await source.get_frozen_credentials(), source)
                    if held.good_for(timedelta(0)):
                        return held
            except RuntimeError as error:
                if "still expired" not in str(error):  # botocore raises no specific type
                    raise
            except (LookupError, TypeError) as error:
                # botocore does not validate the response of an endpoint or a process.
                text = f"The fetched credentials are incomplete ({type(error).__name__}: {error})."
                raise CloudError("NoCredentials", f"{text} Check the credential endpoint.") from error
        text = "The fetched credentials have already expired; check the clock of the operator's machine."
        raise CloudError("ExpiredCredentials", text)

    def _failed(self, error: CloudError) -> None:
        text = f"{self._owner}: {error}"
        if error.reason == "CloudUnreachable":
            text += " The operator retries; if the failure persists, check the network path to the endpoint."
        if self._failure is None or self._failure.reason != error.reason:
            self._log.warning("credential_renewal_failed", reason=error.reason, message=text)
        self._failures += 1
        self._failure = CloudError(error.reason, text, retryable=error.retryable)


@asynccontextmanager
async def open_credentials(
    accounts: Accounts,
    make_session: Callable[[], AioSession],
    clock: Clock,
    *,
    metrics: CloudMetrics = NO_METRICS,
) -> AsyncIterator[Mapping[str, RenewedCredentials]]:
    """Open the credentials of all accounts by name, with the operator's own as `""`.

    They are loaded at first use. Their renewals end with the context.
    """
    async with AsyncExitStack() as stack, TaskGroup() as tasks:

        async def sts_of(by: RenewedCredentials) -> Sts:
            session = make_session()
            by.sign_for(session)
            # All accounts may renew at the same time, so each needs its own connection.
            connections = len(accounts.named) + 1
            sts = Sts(session, accounts.region, connections=connections)
            return await stack.enter_async_context(sts)

        def assumed(
            owner: str, name: str, account: Account, sts: Sts, by: RenewedCredentials
        ) -> RenewedCredentials:
            action, load = "sts:AssumeRole", partial(load_role, account, sts, clock)
            observed = partial(measured, metrics, clock, action, Scope(name, accounts.region))
            return RenewedCredentials(
                owner, action, load, clock, tasks, observed=observed, metrics=metrics, by=by
            )

        load = partial(load_own, make_session, accounts.region)
        base = RenewedCredentials(
            "The operator's own credentials", "GetCredentials", load, clock, tasks, metrics=metrics
        )
        own = base
        if accounts.own_role:
            role = Account(role_arn=accounts.own_role)
            own = assumed("The operator's own account", "", role, await sts_of(base), base)
        own_sts = await sts_of(own)
        named = {
            name: assumed(f"Account {name!r}", name, account, own_sts, own)
            for name, account in accounts.named.items()
        }
        try:
            yield {"": own, **named}
        finally:
            for credentials in (base, own, *named.values()):
                credentials.cancel()
