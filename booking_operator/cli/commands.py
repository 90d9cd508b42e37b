"""The commands: `run`, `board`, `plan`, `crds`, `devcluster`, `demo`."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import structlog

from booking_operator import extras
from booking_operator.api import crd
from booking_operator.api.kinds import ALL_KINDS
from booking_operator.cli.params import Address, Duration, Instant, check_lease_duration
from booking_operator.domain.formatting import format_second
from booking_operator.engine.clock import SystemClock
from booking_operator.errors import UserError
from booking_operator.observability import logs

_INTERRUPTED = 128 + signal.SIGINT
_CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="booking-operator")
def main() -> None:
    """Start and stop groups of tagged cloud instances by bookings."""


Command = Callable[..., Any]


@contextmanager
def _reported() -> Iterator[None]:
    """Report a `UserError` in the context without a traceback."""
    try:
        yield
    except UserError as error:
        raise click.ClickException(str(error)) from error


def _cluster_options(command: Command) -> Command:
    """Add the options that all commands with a cluster share."""
    options = (
        click.option(
            "--kubeconfig",
            metavar="FILE",
            help="Path to the kubeconfig. Default: KUBECONFIG, ~/.kube/config, or the pod's ServiceAccount.",
        ),
        click.option(
            "--context", metavar="NAME", help="Name of the kubeconfig context. Default: the current context."
        ),
        click.option(
            "--namespace",
            "-n",
            envvar="NAMESPACE",
            default="",
            help="Use only this namespace. Default: all namespaces.",
        ),
        click.option(
            "--region",
            envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
            default="",
            help="AWS region of Resources and ResourceMonitors without spec.region.",
        ),
        click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="BOOKING_OPERATOR_CONFIG",
            help="Path to the YAML configuration file: accounts, request limits, and notification targets. "
            "Default: /etc/booking-operator/config.yaml, if it exists.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _log_options(command: Command) -> Command:
    """Add the options of the log."""
    log_format = click.option(
        "--log-format",
        type=click.Choice(["json", "console"]),
        default=None,
        help="Log format. Default: console on a terminal, otherwise json.",
    )
    log_level = click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="Lowest level of the log records.",
    )
    return log_format(log_level(command))


def _default_log_format() -> logs.Format:
    return "console" if sys.stderr.isatty() else "json"


@main.command()
@_cluster_options
@click.option(
    "--dry-run",
    is_flag=True,
    help="Report planned actions in the log, in conditions and in Events. Do not "
    "change cloud instances, and do not send notifications.",
)
@click.option(
    "--leader-elect",
    is_flag=True,
    envvar="LEADER_ELECT",
    help="Use leader election: only the replica that holds the Lease acts; the others are on standby.",
)
@click.option(
    "--lease-duration",
    type=Duration(),
    envvar="LEASE_DURATION",
    default="30s",
    show_default=True,
    callback=check_lease_duration,
    help="How long standby replicas wait after the last renewal before they take over the Lease. A leader "
    "that cannot renew it stops writing after two thirds of this time.",
)
@click.option(
    "--leader-election-id",
    metavar="NAME",
    envvar="LEADER_ELECTION_ID",
    default="booking-operator",
    show_default=True,
    help="Name of the Lease.",
)
@click.option(
    "--leader-election-namespace",
    metavar="NAME",
    envvar="LEADER_ELECTION_NAMESPACE",
    default="",
    help="Namespace of the Lease. Default: the namespace of the pod, or of the kubeconfig context.",
)
@click.option(
    "--metrics-bind-address",
    type=Address(),
    envvar="METRICS_BIND_ADDRESS",
    default=":8080",
    show_default=True,
    help="Address on which to serve /metrics; 0 disables the endpoint.",
)
@click.option(
    "--health-probe-bind-address",
    type=Address(),
    envvar="HEALTH_PROBE_BIND_ADDRESS",
    default=":8081",
    show_default=True,
    help="Address on which to serve /healthz and /readyz; 0 disables both.",
)
@click.option(
    "--notify-before",
    type=Duration(),
    envvar="NOTIFY_BEFORE",
    default="20m",
    show_default=True,
    help="How long before the end of a booking to notify its recipients.",
)
@click.option(
    "--deletion-grace",
    type=Duration(),
    envvar="DELETION_GRACE",
    default="5s",
    show_default=True,
    help="How long a stop waits after the deletion of the booking that kept the instances running. If "
    "another booking begins within this time, the instances keep running.",
)
@click.option(
    "--lock-tags/--no-lock-tags",
    default=True,
    show_default=True,
    envvar="LOCK_TAGS",
    help="Write lock tags to running instances, which name the booking that holds them. With --no-lock-tags, "
    "remove those that the operator wrote earlier. Locks of other users and tools count in both cases.",
)
@_log_options
def run(log_format: Any, **options: Any) -> None:
    """Run the operator until SIGTERM or Ctrl-C.

    To send email notifications, set SMTP_HOST and SMTP_SENDER, and optionally SMTP_PORT, SMTP_USER,
    SMTP_PASSWORD and SMTP_SECURITY (auto, starttls, tls, none).

    The operator finds AWS credentials in the same way as the AWS CLI. If AWS_ASSUME_ROLE_ARN is set, the
    operator uses them to assume this role.
    """
    with _reported():
        extras.require("operator")
    log_format = log_format or _default_log_format()
    logs.configure(log_format, options["log_level"])
    # The imports of the Kubernetes client and of botocore take most of a second. The import is here, so that
    # other commands start faster.
    from booking_operator import operator  # noqa: PLC0415
    from booking_operator.config import Settings  # noqa: PLC0415

    settings = Settings(log_format=log_format, **options)
    sys.exit(asyncio.run(_until_signalled(partial(operator.run, settings))))


@main.command(short_help="Serve the board to the users of the cluster.")
@click.option("--in-cluster", is_flag=True, required=True, help="Serve all users of the cluster.")
@click.option("--kubeconfig", metavar="FILE", help="Path to the kubeconfig. Default: as for `run`.")
@click.option("--context", metavar="NAME", help="Name of the kubeconfig context.")
@click.option(
    "--namespace", "-n", envvar="NAMESPACE", default="", help="Show only this namespace. Default: all."
)
@click.option(
    "--bind-address",
    type=Address(),
    default=":8080",
    show_default=True,
    help="Address on which to serve the page, calendar feeds, /healthz and /readyz.",
)
@click.option("--tokens", is_flag=True, help="Accept bearer tokens of the cluster.")
@click.option(
    "--proxy-bind-address",
    type=Address(),
    default="0",
    show_default=True,
    help="Loopback address on which to serve the page to an authenticating proxy, such as 127.0.0.1:8081. "
    "The board believes the headers of requests there. 0 is for no proxy.",
)
@click.option(
    "--user-header",
    metavar="NAME",
    default="X-Forwarded-Email",
    show_default=True,
    help="Header in which the proxy names the user.",
)
@click.option(
    "--groups-header",
    metavar="NAME",
    default="X-Forwarded-Groups",
    show_default=True,
    help="Header in which the proxy lists the groups of the user, separated by commas.",
)
@click.option(
    "--user-prefix",
    metavar="TEXT",
    default="",
    help="What the API server puts before the name of a user: its --oidc-username-prefix.",
)
@click.option(
    "--groups-prefix",
    metavar="TEXT",
    default="",
    help="What the API server puts before the name of a group: its --oidc-groups-prefix.",
)
@click.option("--anonymous", is_flag=True, help="Show all bookings to everybody who reaches it.")
@click.option(
    "--external-url",
    metavar="URL",
    default="",
    help="Address at which people reach the board, like https://bookings.example.com.",
)
@click.option(
    "--cluster-name",
    metavar="NAME",
    default="",
    help="Name in the header of the page.",
)
@_log_options
def board(*, in_cluster: bool, log_format: Any, log_level: str, **options: Any) -> None:  # noqa: ARG001
    """Serve a read-only page that shows who has what until when, to the users of the cluster.

    A SubjectAccessReview for each user and namespace decides what the page shows. To show and change bookings
    on your own machine, run `kubectl booking board`.
    """
    logs.configure(log_format or _default_log_format(), log_level)
    from booking_operator.board import in_cluster as deployed  # noqa: PLC0415
    from booking_operator.board.authentication import ProxyHeaders  # noqa: PLC0415

    headers = ProxyHeaders(
        options.pop("user_header"),
        options.pop("groups_header"),
        options.pop("user_prefix"),
        options.pop("groups_prefix"),
    )
    external_url = options.pop("external_url").rstrip("/")
    settings = deployed.BoardSettings(proxy_headers=headers, external_url=external_url, **options)
    sys.exit(asyncio.run(_until_signalled(partial(deployed.run, settings, SystemClock()))))


@main.command(short_help="Forecast the AWS API calls and the late starts.")
@_cluster_options
@click.option(
    "--from",
    "begin",
    type=Instant(),
    default="0s",
    show_default=True,
    help="Start of the time range: a date, or a duration from now.",
)
@click.option(
    "--to",
    "end",
    type=Instant(),
    default="24h",
    show_default=True,
    help="End of the time range: a date, or a duration from now.",
)
@click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)
def plan(begin: datetime, end: datetime, output: str, **options: Any) -> None:
    """Print the AWS API calls that the bookings in the cluster need, and the starts that will be late.

    This command makes no AWS API calls. The sizes of the groups come from the status of the Resources, and
    the token buckets of AWS count as full.
    """
    if begin >= end:
        raise click.UsageError(f"--to {format_second(end)} must be later than --from {format_second(begin)}")
    logs.configure("console", "warning")
    from booking_operator.cli import plan as planning  # noqa: PLC0415
    from booking_operator.config import Settings  # noqa: PLC0415

    with _reported():
        found = asyncio.run(planning.plan(Settings(**options), begin, end, SystemClock()))
    show = planning.as_json if output == "json" else planning.as_text
    click.echo(show(found, begin, end))


async def _until_signalled(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    """Run `work` until it ends. The first SIGTERM or SIGINT sets its event, the second one cancels it.

    Returns:
        The exit code: 0 after a signal, 1 after a `UserError`.
    """
    events, loop = structlog.get_logger(), asyncio.get_running_loop()
    stopping = asyncio.Event()
    task = asyncio.ensure_future(work(stopping))

    def stop() -> None:
        if stopping.is_set():
            task.cancel()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        with suppress(asyncio.CancelledError):
            await task
    except UserError as error:
        events.error("startup_failed", error=str(error))
        return 1
    events.info("stopped")
    return 0


@main.command(short_help="Print the CustomResourceDefinitions.")
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one file per kind into this directory.",
)
def crds(output: Path | None) -> None:
    """Print the CustomResourceDefinitions, or write them into a directory."""
    if output is None:
        click.echo("---\n".join(crd.render(kind) for kind in ALL_KINDS), nl=False)
        return
    for path in crd.write(output):
        click.echo(path)


@main.command(short_help="Run an API server and a fake AWS on loopback.")
@click.option("--prepare", is_flag=True, help="Only find, build or install the required programs, then exit.")
@click.option("--node", is_flag=True, help="With --prepare: also prepare the programs that run pods.")
def devcluster(*, prepare: bool, node: bool) -> None:
    """Run a playground on loopback until Ctrl-C: etcd, kube-apiserver and a fake AWS."""
    if node and not prepare:
        raise click.UsageError("--node requires --prepare, because the playground runs no pods")
    with _reported():
        if prepare:
            _prepare(node=node)
        else:
            _playground()


def _prepare(*, node: bool) -> None:
    from booking_operator.devcluster import prepare, process  # noqa: PLC0415

    process.interrupt_once()
    try:
        prepare.prepare(node=node)
    except KeyboardInterrupt:
        prepare.tell("Stopped. The next run reuses the files that are already downloaded and compiled.")
        sys.exit(_INTERRUPTED)


def _playground() -> None:
    from booking_operator.devcluster import process  # noqa: PLC0415

    process.interrupt_once()
    extras.require("demo")
    # This module imports modules of the extra `demo`.
    from booking_operator.devcluster import playground  # noqa: PLC0415

    playground.run()


@main.command(short_help="Watch bookings start and stop instances.")
@click.option("--keep-logs", is_flag=True, help="Keep the logs of all processes, and print their directory.")
@click.option(
    "--context",
    default="",
    help="Use the cluster of this kubeconfig context, and remove everything from it at the end.",
)
def demo(*, keep_logs: bool, context: str) -> None:
    """Run a live demo: bookings start and stop instances through a real kube-apiserver."""
    from booking_operator.devcluster import process  # noqa: PLC0415

    process.interrupt_once()
    with _reported():
        extras.require("demo")
    # This module imports modules of the extra `demo`.
    from booking_operator.devcluster import demo as show  # noqa: PLC0415

    sys.exit(show.run(context=context, keep_logs=keep_logs))
