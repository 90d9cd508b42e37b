"""Run the operator for an hour at twenty times the density of a usual fleet, and judge whether it is flat.

    python -m tox -e soak
    python -m tox -e soak -- --seconds 900 --record soak.json --svg soak.svg

Without `--seconds`, the duration is SOAK_SECONDS, or an hour. The exit code is 1 if any value is not flat.
"""

import argparse
import asyncio
import os
import platform
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.soak import verdict
from bench.soak.run import Record, Run
from bench.soak.table import folded, shown
from bench.world import world


def _tell(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    seconds = float(os.environ.get("SOAK_SECONDS", "3600"))
    parser.add_argument("--seconds", type=float, default=seconds, help="duration of the run")
    parser.add_argument("--seed", type=int, default=8, help="random seed of the bookings")
    parser.add_argument("--from", dest="read", type=Path, help="judge this saved record instead of a new run")
    parser.add_argument("--record", type=Path, help="save the measurements to this file")
    parser.add_argument("--log", type=Path, help="save the operator's log to this file")
    parser.add_argument("--svg", type=Path, help="draw the run into this file")
    parser.add_argument("--fold", type=Path, help="write the table into this page, between its two marks")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> Record:
    machine = (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d %H:%M}Z"
    )
    with world() as stands:
        try:
            return asyncio.run(Run(stands, options.seconds, options.seed, machine, _tell).run())
        finally:
            if options.log:
                for log in stands.directory.glob("soak.log"):
                    shutil.copy(log, options.log)


def main() -> int:
    options = _arguments()
    record = Record.read(options.read) if options.read else _run(options)
    if options.record:
        record.write(options.record)
    findings = verdict.judged(record.samples, record.boundaries, record.strays, record.errors)
    print(f"\n{shown(record, findings)}\n")
    if options.svg:
        # The import takes half a second.
        from bench.soak.picture import draw  # noqa: PLC0415

        draw(options.svg, record)
    if options.fold:
        options.fold.write_text(folded(options.fold.read_text(), record, findings))
    return 0 if all(finding.met for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
