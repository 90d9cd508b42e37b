"""The commands: `run`, `plan`, `crds`, `devcluster`, `demo`."""

import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import structlog

from booking_operator.api import crd
from booking_operator.api.kinds import KINDS
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


def _cluster_options(command: Command) -> Command:
    """Add the options that all commands with a cluster share."""
    options = (
        click.option(
            "--kubeconfig",
            metavar="FILE",
            help="Cluster to use; default: KUBECONFIG, ~/.kube/config, in-cluster.",
        ),
        click.option(
            "--context", metavar="NAME", help="Context of the kubeconfig; default: its current one."
        ),
        click.option(
            "--namespace", "-n", envvar="NAMESPACE", default="", help="One namespace; default: all."
        ),
        click.option(
            "--region",
            envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
            default="",
            help="Region of Resources that name none.",
        ),
        click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="BOOKING_OPERATOR_CONFIG",
            help="The operator's configuration, a YAML file: accounts, request limits, and targets of "
            "notifications. Default: /etc/booking-operator/config.yaml, if there is one.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_cluster_options
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what would be done in log, condition and Event; write nothing to the cloud, notify nobody.",
)
@click.option(
    "--leader-elect",
    is_flag=True,
    envvar="LEADER_ELECT",
    help="Work only while holding a Lease: of several replicas one works, and the others stand by.",
)
@click.option(
    "--lease-duration",
    type=Duration(),
    envvar="LEASE_DURATION",
    default="30s",
    show_default=True,
    callback=check_lease_duration,
    help="How long the others wait for a leader that is silent. It stops writing itself after two thirds.",
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
    help="Namespace of the Lease; default: that of the pod, or of the kubeconfig's context.",
)
@click.option(
    "--metrics-bind-address",
    type=Address(),
    envvar="METRICS_BIND_ADDRESS",
    default=":8080",
    show_default=True,
    help="Serve /metrics here; 0 for nowhere.",
)
@click.option(
    "--health-probe-bind-address",
    type=Address(),
    envvar="HEALTH_PROBE_BIND_ADDRESS",
    default=":8081",
    show_default=True,
    help="Serve /healthz and /readyz here; 0 for nowhere.",
)
@click.option(
    "--notify-before",
    type=Duration(),
    envvar="NOTIFY_BEFORE",
    default="20m",
    show_default=True,
    help="Notify the recipients of a booking this long before its end.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "console"]),
    default=None,
    help="Default: console on a terminal, else json.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def run(log_format: Any, **options: Any) -> None:
    """Run the operator until SIGTERM or Ctrl-C.

    Mails are sent through SMTP_HOST, from SMTP_SENDER; see also SMTP_PORT, SMTP_USER, SMTP_PASSWORD and
    SMTP_SECURITY (auto, starttls, tls, none).

    AWS credentials are found as the AWS CLI finds them; AWS_ASSUME_ROLE_ARN names a role to assume with them.
    """
    log_format = log_format or ("console" if sys.stderr.isatty() else "json")
    logs.configure(log_format, options["log_level"])
    # The imports of the Kubernetes client and of botocore take most of a second. The import is here, so that
    # other commands start faster.
    from booking_operator import operator  # noqa: PLC0415
    from booking_operator.config import Settings  # noqa: PLC0415

    settings = Settings(log_format=log_format, **options)
    sys.exit(asyncio.run(_until_signalled(operator.run(settings))))


@main.command()
@_cluster_options
@click.option("--from", "begin", type=Instant(), default="0s", help="Begin: a date, or a duration from now.")
@click.option(
    "--to",
    "end",
    type=Instant(),
    default="24h",
    show_default=True,
    help="End: a date, or a duration from now.",
)
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text", show_default=True)
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

    try:
        found = asyncio.run(planning.plan(Settings(**options), begin, end, SystemClock()))
    except UserError as error:
        raise click.ClickException(str(error)) from error
    show = planning.as_json if output == "json" else planning.as_text
    click.echo(show(found, begin, end))


async def _until_signalled(work: Any) -> int:
    """Run `work` until it ends. SIGTERM and SIGINT cancel it.

    Returns:
        The exit code: 0 after a signal, 1 after a `UserError`.
    """
    events, loop = structlog.get_logger(), asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        events.info("stopped")
        return 0
    except UserError as error:
        events.error("cannot_run", error=str(error))
        return 1
    return 0


@main.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one file per kind into this directory.",
)
def crds(output: Path | None) -> None:
    """Print the CustomResourceDefinitions, or write them into a directory."""
    if output is None:
        click.echo("---\n".join(crd.render(kind) for kind in KINDS), nl=False)
        return
    for path in crd.write(output):
        click.echo(path)


@main.command()
@click.option("--prepare", is_flag=True, help="Only find or build the programs it needs, and end.")
@click.option("--node", is_flag=True, help="With --prepare: also the programs that run pods.")
def devcluster(*, prepare: bool, node: bool) -> None:
    """Run etcd, kube-apiserver and a fake AWS on loopback until Ctrl-C, to play with."""
    from booking_operator.devcluster.errors import DevclusterError  # noqa: PLC0415

    if node and not prepare:
        raise click.UsageError("--node goes with --prepare: the playground itself runs no pods")
    try:
        if prepare:
            _prepare(node=node)
        else:
            _playground()
    except DevclusterError as error:
        raise click.ClickException(str(error)) from error


def _prepare(*, node: bool) -> None:
    from booking_operator.devcluster import prepare, process  # noqa: PLC0415

    process.interrupt_once()
    try:
        prepare.prepare(node=node)
    except KeyboardInterrupt:
        prepare.tell("Stopped. The next run uses what is downloaded and compiled so far.")
        sys.exit(_INTERRUPTED)


def _playground() -> None:
    from booking_operator.devcluster import extra, process  # noqa: PLC0415

    process.interrupt_once()
    extra.require()
    # This module imports modules of the extra `demo`.
    from booking_operator.devcluster import playground  # noqa: PLC0415

    playground.run()


@main.command()
@click.option("--keep-logs", is_flag=True, help="Keep the logs of all processes, and say where.")
def demo(*, keep_logs: bool) -> None:
    """Show bookings starting and stopping instances through a real kube-apiserver, live."""
    from booking_operator.devcluster import extra, process  # noqa: PLC0415
    from booking_operator.devcluster.errors import DevclusterError  # noqa: PLC0415

    process.interrupt_once()
    try:
        extra.require()
    except DevclusterError as error:
        raise click.ClickException(str(error)) from error
    # This module imports modules of the extra `demo`.
    from booking_operator.devcluster import demo as show  # noqa: PLC0415

    sys.exit(show.run(keep_logs=keep_logs))
