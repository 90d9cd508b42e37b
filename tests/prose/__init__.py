"""The check of plain English. `python -m tests.prose` prints the phrases to avoid."""
