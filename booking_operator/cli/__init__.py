"""The command line: the commands, the types of their parameters, and the command `plan`."""
