"""The entry point of `booking-operator` and of `python -m booking_operator`."""

import signal
import sys


def main() -> None:
    """Run the command line.

    SIGTERM ends the process from the start: with exit code 0 for `run`, as after a clean shutdown. As process
    1 of a container, the operator would ignore a signal without a handler, and the imports alone take most of
    a second.
    """
    code = 0 if sys.argv[1:2] == ["run"] else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))
    from booking_operator.cli.commands import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
