"""What the operator promises of time, calls and memory, measured: `python -m bench`; see docs/bench.md."""
