"""What is wrong with a file of YAML, without quoting it: such files have secrets in them."""

import re

import yaml

_QUOTED = re.compile(r"'.*'", re.DOTALL)


def describe_yaml_error(error: yaml.YAMLError) -> str:
    """Where the file is wrong, and how, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "it is no YAML"
    mark = error.problem_mark
    problem = " ".join(_QUOTED.sub("'…'", error.problem or "it is no YAML").split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
