"""The faults. Each is one row of the table in docs/reliability.md."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.chaos.strikes import (
    Strike,
    compact,
    cut_off,
    cut_off_and_compact,
    delete_crd,
    kill_apiserver,
    kill_etcd,
    kill_operator,
    pause_operator,
    proxied,
    replace_crd,
    restore_snapshot,
    revoke_token,
    take_snapshot,
)
from tests.chaos.world import World
from tests.support.kube_faults import KubeFault, broken, too_many


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Times are in seconds.

    Attributes:
        name: the name of the row.
        description: the description in the table.
        strike: causes the fault.
        seconds: the duration of the fault.
        settle: the time after the fault within which the operator must act on all edits made during it.
        late: the lateness up to which the action at a booked boundary counts as kept.
        rounds: the number of rounds, if it does not depend on the run.
        dead: whether no operator runs during the fault.
        quiet: the time until the fault takes effect. No boundary lies within it.
        edits: whether users edit bookings during the fault, or right before it.
        felt: log events that the operator must log because of the fault; empty if it cannot notice the fault.
        prepare: what to do before the fault, after the bookings of the round are created.
        apiserver_flags: additional flags of kube-apiserver.
        replicas: the number of replicas.
        service_account: whether the operator uses a token of its ServiceAccount.
    """

    name: str
    description: str
    strike: Strike
    seconds: float = 5
    settle: float = 8
    late: float = 1
    rounds: int | None = None
    dead: bool = False
    quiet: float = 0
    edits: Literal["during", "before"] = "during"
    felt: Sequence[str] = ()
    prepare: Callable[[World], Awaitable[None]] | None = None
    apiserver_flags: Sequence[str] = ()
    replicas: int = 1
    service_account: bool = False


FAULTS = (
    Fault(
        "cut off", "nothing passes between operator and API server, and neither side gets an error", cut_off
    ),
    Fault("delay", "answers and events are 0.5 to 1.5 s late", proxied(KubeFault("delay", (0.5, 1.5)))),
    Fault(
        "reset",
        "connections are reset, half of them after the request was carried out",
        proxied(KubeFault("reset")),
        felt=["watch_failed"],
    ),
    Fault(
        "truncate",
        "answers and events break off in the middle",
        proxied(KubeFault("truncate")),
        felt=["watch_failed"],
    ),
    Fault(
        "garble",
        "the second half of each answer and event is garbage",
        proxied(KubeFault("garble")),
        felt=["watch_failed"],
    ),
    Fault("429", "429 to everything, watches broken before", proxied(too_many()), felt=["watch_failed"]),
    Fault(
        "429, Retry-After",
        "the same with `Retry-After: 2`",
        proxied(too_many(retry_after=2)),
        felt=["watch_failed"],
    ),
    Fault("500, 503", "500 and 503 in turns, as JSON and as HTML", proxied(broken()), felt=["watch_failed"]),
    Fault(
        "slow",
        "each answer takes 2 to 5 s, and each event",
        proxied(KubeFault("delay", (2, 5))),
        seconds=10,
        settle=14,
    ),
    Fault(
        "silent watches",
        "watches stay open and send nothing, until the read timeout of 80 s ends them",
        proxied(KubeFault("silence")),
        seconds=84,
        rounds=1,
        felt=["watch_failed"],
    ),
    Fault(
        "compaction",
        "etcd forgets its history once a second, under running watches; no watch cache",
        compact,
        apiserver_flags=["--watch-cache=false"],
    ),
    Fault(
        "cut off, compaction",
        "the same once, while the operator is cut off: its watches come back to 410",
        cut_off_and_compact,
        felt=["watch_expired"],
        apiserver_flags=["--watch-cache=false"],
    ),
    Fault(
        "API server killed",
        "kill -9 of kube-apiserver, started again",
        kill_apiserver,
        settle=14,
        felt=["watch_failed"],
    ),
    Fault(
        "API server killed, two replicas",
        "the same with two replicas and a LeaseDuration of 30 s",
        kill_apiserver,
        settle=14,
        felt=["watch_failed"],
        replicas=2,
    ),
    Fault("etcd killed", "kill -9 of etcd, started again", kill_etcd, settle=14),
    Fault(
        "etcd restored",
        "etcd's disk wiped and an older one put in its place: resourceVersions go back",
        restore_snapshot,
        settle=14,
        edits="before",
        felt=["watch_failed"],
        prepare=take_snapshot,
    ),
    Fault(
        "CRD deleted",
        "the CRD of the bookings deleted with all of them for 3 s, and the bookings applied again after 12",
        delete_crd,
        seconds=12,
        settle=10,
        quiet=1,
        edits="before",
        felt=["list_failed"],
    ),
    Fault(
        "CRD replaced",
        "the CRD deleted with all bookings, and all of it applied again at once",
        replace_crd,
        settle=10,
        quiet=3,
        edits="before",
    ),
    Fault(
        "token revoked",
        "the operator's token refused, watches broken, another token in the file",
        revoke_token,
        seconds=15,
        settle=10,
        felt=["watch_failed", "credentials_reloaded"],
        service_account=True,
    ),
    Fault(
        "operator killed",
        "kill -9 of the operator, started again",
        kill_operator,
        seconds=3,
        late=8,
        dead=True,
    ),
    Fault(
        "operator paused",
        "SIGSTOP, then SIGCONT",
        pause_operator,
        late=6,
        dead=True,
    ),
)
