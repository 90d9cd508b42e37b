"""Completion for `kubectl booking`, in the form that kubectl asks its plugins for.

kubectl runs the program `kubectl_complete-booking` with the words after `kubectl booking`; the last word is
the one to complete. The answer has one candidate per line, with a tab before its description, and ends with
a directive of Cobra (https://github.com/kubernetes/kubernetes/pull/105867). kubectl's own completion scripts
for bash, zsh and fish show it.

The names of objects come from kubectl. It is there, and it answers faster than the Kubernetes client of this
package can be imported. It starts before click is imported, so that both run at the same time.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

Completer = Callable[["click.Context", "click.Parameter", str], list["CompletionItem"]]

_NO_FILES = ":4"
"""The directive ShellCompDirectiveNoFileComp: the shell does not complete file names."""
_TIMEOUT = 2.0
_ACCESS = {
    "namespace": ("--namespace", "-n"),
    "context": ("--context",),
    "kubeconfig": ("--kubeconfig",),
    "impersonate": ("--as",),
}
RESOURCES, TARGETS, SCHEDULERS = ("resources",), ("resources", "bookings"), ("bookingschedulers",)
KINDS = {
    "book": RESOURCES,
    "extend": TARGETS,
    "feed": RESOURCES,
    "ical": RESOURCES,
    "list": RESOURCES,
    "release": TARGETS,
    "skip": SCHEDULERS,
    "status": RESOURCES,
    "timeline": RESOURCES,
    "wait": RESOURCES,
    "why": TARGETS,
}
"""The kinds whose names each command completes."""
DURATIONS = ("30m", "1h", "2h", "4h", "8h", "1d")
TIMES = ("now", "noon", "midnight", "+1h", "9:00", "17:00")
DAYS = ("today", "tomorrow", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


def main() -> None:
    """Answer kubectl."""
    for line in answer(sys.argv[1:]):
        sys.stdout.write(f"{line}\n")


def answer(words: Sequence[str]) -> list[str]:
    """Return the lines of the answer. The last word is the one to complete."""
    *before, incomplete = words or [""]
    lookup = NameLookup(before, incomplete)
    from click.shell_completion import ShellComplete  # noqa: PLC0415 - see the module docstring

    from booking_operator.cli.kubectl.main import cli  # noqa: PLC0415 - it imports this module

    completion = ShellComplete(cli, {"obj": lookup}, "kubectl booking", "")
    found = completion.get_completions(list(before), incomplete)
    lookup.end()
    lines = [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in found]
    return [*lines, _NO_FILES]


def complete_names(context: "click.Context", _: "click.Parameter", incomplete: str) -> list["CompletionItem"]:
    """Complete the names of the objects that the command is about, by `KINDS`."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    flags = {name: str(context.params.get(name) or "") for name in _ACCESS}
    lookup: NameLookup = context.find_root().obj
    names = lookup.names(_kubectl(KINDS[context.command.name or ""], flags))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _kubectl(kinds: Sequence[str], flags: dict[str, str]) -> tuple[str, ...]:
    """Return the command that prints the names of all objects of some kinds.

    The API server prints the table. This takes half of the time of other formats, for which it sends whole
    objects. With several kinds, the first word is like `booking.manager.kotaico.de/my-afternoon`.
    """
    plurals = ",".join(f"{kind}.manager.kotaico.de" for kind in kinds)
    access = (f"{_ACCESS[name][0]}={value}" for name, value in flags.items() if value)
    return ("kubectl", "get", plurals, "--request-timeout=1s", "--no-headers", *access)


class NameLookup:
    """Names from kubectl, which starts with the command that the words are probably about.

    Args:
        before: the words before the last one.
        incomplete: the last word.
    """

    def __init__(self, before: Sequence[str], incomplete: str) -> None:
        kinds = KINDS.get(next((word for word in before if not word.startswith("-")), ""))
        is_name = bool(before) and not before[-1].startswith("-") and not incomplete.startswith("-")
        self._command = _kubectl(kinds, dict(_flags(before))) if kinds and is_name else ()
        self._process = _start(self._command) if self._command else None

    def names(self, command: tuple[str, ...]) -> list[str]:
        """Return the names that a command prints; none if it fails."""
        if command != self._command:
            self.end()
            self._process = _start(command)
        if self._process is None:
            return []
        try:
            printed, _ = self._process.communicate(timeout=_TIMEOUT)
        except (OSError, subprocess.SubprocessError):
            return []
        rows = [line.split(maxsplit=1) for line in printed.splitlines()]
        return [row[0].rpartition("/")[2] for row in rows if row]

    def end(self) -> None:
        """End kubectl if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def _start(command: Sequence[str]) -> "subprocess.Popen[str] | None":
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
    except OSError:
        return None


def _flags(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the options in `_ACCESS`, each at most once and in their order."""
    for name, flags in _ACCESS.items():
        values = [
            following if word in flags else word.partition("=")[2]
            for word, following in zip(words, [*words[1:], ""], strict=True)
            if word in flags or word.partition("=")[0] in flags
        ]
        if values:
            yield name, values[-1]


def words_of(*words: str) -> Completer:
    """Return a completer for fixed words."""

    def complete(_: Any, __: Any, incomplete: str) -> list["CompletionItem"]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    return complete
