"""The console script `booking-operator`, which is `python -m booking_operator` too."""

import signal
import sys


def main() -> None:
    """Run the command line.

    SIGTERM is a clean end from the first instant on. Process 1 of a container, which this is, gets no signal
    that it has no handler for; and imports alone take the better part of a second.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from booking_operator.cli import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
