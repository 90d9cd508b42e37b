"""Describes YAML errors without quoting the file, because these files contain secrets."""

import re

import yaml

_QUOTED = re.compile(r"'.*'", re.DOTALL)


def describe_yaml_error(error: yaml.YAMLError) -> str:
    """Return the position and the kind of a YAML error, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "the file is not valid YAML"
    mark = error.problem_mark
    problem = " ".join(_QUOTED.sub("'…'", error.problem or "the file is not valid YAML").split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
