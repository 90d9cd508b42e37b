"""The benchmark of the runtime settings runs, and prints each figure."""

import subprocess
import sys


def test_each_figure_has_a_row() -> None:
    command = [sys.executable, "-m", "bench.runtime", "--samples=1", "--bookings=3000"]
    table = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    assert len({(setting, figure) for setting, figure, *_ in rows}) == 6
    assert all(
        float(value.replace(",", "")) >= 0 for _, _, without, tuned, _ in rows for value in (without, tuned)
    )
