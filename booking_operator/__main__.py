"""The console script `booking-operator`, which is `python -m booking_operator` too."""

import signal
import sys


def main() -> None:
    """Run the command line.

    From the first instant on SIGTERM ends it, and for `run` that is a clean end. Process 1 of a container,
    which this is, gets no signal that it has no handler for; and imports alone take most of a second.
    """
    code = 0 if sys.argv[1:2] == ["run"] else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))
    from booking_operator.cli.commands import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
