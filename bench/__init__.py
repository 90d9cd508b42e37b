"""Benchmarks. They measure the operator and are not part of the test suite."""
