"""Completion for `kubectl booking`, in the form that kubectl asks its plugins for.

kubectl runs the program `kubectl_complete-booking` with the words after `kubectl booking`; the last word is
the one to complete. The answer has one candidate per line, with a tab before its description, and ends with
a directive of Cobra (https://github.com/kubernetes/kubernetes/pull/105867). kubectl's own completion scripts
for bash, zsh and fish show it.

The names of objects come from kubectl. It is there, and it answers faster than the Kubernetes client of this
package can be imported.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem, ShellComplete

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_NO_FILES = ":4"
"""The directive ShellCompDirectiveNoFileComp: the shell does not complete file names."""
_TIMEOUT = 2.0
_ACCESS = {
    "namespace": "--namespace",
    "context": "--context",
    "kubeconfig": "--kubeconfig",
    "impersonate": "--as",
}
DURATIONS = ("30m", "1h", "2h", "4h", "8h", "1d")
TIMES = ("now", "noon", "midnight", "+1h", "9:00", "17:00")
DAYS = ("today", "tomorrow", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


def main() -> None:
    """Answer kubectl."""
    for line in answer(sys.argv[1:]):
        sys.stdout.write(f"{line}\n")


def answer(words: Sequence[str]) -> list[str]:
    """Return the lines of the answer. The last word is the one to complete."""
    from booking_operator.cli.kubectl.main import cli  # noqa: PLC0415 - it imports this module

    *before, incomplete = words or [""]
    found = ShellComplete(cli, {}, "kubectl booking", "").get_completions(list(before), incomplete)
    lines = [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in found]
    return [*lines, _NO_FILES]


def names_of(*kinds: str) -> Completer:
    """Return a completer for the names of objects of some kinds."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in _names(context, kinds) if name.startswith(incomplete)]

    return complete


def words_of(*words: str) -> Completer:
    """Return a completer for fixed words."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    return complete


def _names(context: click.Context, kinds: Sequence[str]) -> list[str]:
    """Return the names of all objects of some kinds, as far as kubectl prints them.

    The API server prints the table. This takes half of the time of other formats, for which it sends whole
    objects. With several kinds, the first word is like `booking.manager.kotaico.de/my-afternoon`.
    """
    plurals = ",".join(f"{kind}.manager.kotaico.de" for kind in kinds)
    command = ["kubectl", "get", plurals, "--request-timeout=1s", "--no-headers"]
    command += [f"{flag}={value}" for name, flag in _ACCESS.items() if (value := context.params.get(name))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    return [row[0].rpartition("/")[2] for row in rows if row]
