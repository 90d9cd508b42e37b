"""Checks that text uses plain English. `python -m tests.prose` prints what it finds."""
