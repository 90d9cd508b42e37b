"""The kubectl plugin `kubectl booking`.

`main` has the commands with their options, and imports little, so that help, completion and usage errors are
fast. The modules that a command needs are imported when it runs.
"""
