"""Generates the CustomResourceDefinitions from the models, as structural OpenAPI v3 schemas.

The docstrings of models and of their attributes become the descriptions that `kubectl explain` shows. See
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from pathlib import Path
from types import NoneType
from typing import Any

import yaml
from pydantic import TypeAdapter

from booking_operator.api import fields
from booking_operator.api.kinds import ALL_KINDS, Column, Kind
from booking_operator.api.meta import GROUP, VERSION

Schema = dict[str, Any]

_HEADER = "# Generated from the models in booking_operator/api by `tox -e generate`; do not edit.\n"
_CATEGORY = "booking-operator"


def custom_resource_definition(kind: Kind[Any]) -> Schema:
    """Return the CRD of one kind, with its keys in the usual order."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": [_CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _object_schema(kind)},
                    **({"subresources": {"status": {}}} if kind.status is not NoneType else {}),
                    **_selectable(kind),
                    "additionalPrinterColumns": [_printer_column(column) for column in kind.columns],
                }
            ],
        },
    }


def write(directory: Path) -> list[Path]:
    """Write one file per kind into `directory` and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    return [_write_one(directory, kind) for kind in ALL_KINDS]


def render(kind: Kind[Any]) -> str:
    """Return the CRD of one kind as YAML text."""
    return _HEADER + yaml.safe_dump(custom_resource_definition(kind), sort_keys=False, width=110)


def file_name(kind: Kind[Any]) -> str:
    """Return the file name of the CRD of one kind, as kubebuilder names it."""
    return f"{GROUP}_{kind.plural}.yaml"


def _write_one(directory: Path, kind: Kind[Any]) -> Path:
    path = directory / file_name(kind)
    path.write_text(render(kind))
    return path


def _selectable(kind: Kind[Any]) -> Schema:
    """Return the key `selectableFields`, or nothing if the kind has none.

    The API server drops an empty list, so tools that compare manifests would show a permanent difference.
    """
    return {"selectableFields": [{"jsonPath": path} for path in kind.selectable]} if kind.selectable else {}


def _printer_column(column: Column) -> Schema:
    wide = {"priority": 1} if column.wide else {}
    return {"name": column.name, "type": column.type, "jsonPath": column.path, **wide}


def _object_schema(kind: Kind[Any]) -> Schema:
    spec = _structural(kind.spec, defaults=True)
    if kind.spec_rules:
        spec["x-kubernetes-validations"] = list(kind.spec_rules)
    return {
        "type": "object",
        "description": _first_paragraph(kind.model),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            **({"status": _structural(kind.status, defaults=False)} if kind.status is not NoneType else {}),
        },
    }


def _structural(model: type, *, defaults: bool) -> Schema:
    """Return the schema of `model` with inlined references and without titles.

    Without `defaults`, as for a status, the schema has no default values.
    """
    schema = TypeAdapter(model).json_schema(by_alias=True)
    return _inline(schema, schema.pop("$defs", {}), defaults=defaults)


def _inline(schema: Schema, definitions: Schema, *, defaults: bool) -> Schema:
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return _inline({**target, **own}, definitions, defaults=defaults)
    kept = {key: value for key, value in schema.items() if key not in {"title", "properties", "items"}}
    absent = kept.pop(fields.NO_DEFAULT, False)
    if not defaults or absent or kept.get("default") == []:
        kept.pop("default", None)
    if "properties" in schema:
        kept["properties"] = {
            name: _inline(property_, definitions, defaults=defaults)
            for name, property_ in schema["properties"].items()
        }
        if "type" in kept["properties"] and "lastTransitionTime" in kept["properties"]:
            kept["required"] = ["type", "status", "reason", "message", "lastTransitionTime"]
    if "items" in schema:
        kept["items"] = _inline(schema["items"], definitions, defaults=defaults)
        if "lastTransitionTime" in kept["items"].get("properties", {}):
            kept |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return kept


def _first_paragraph(model: type) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())
