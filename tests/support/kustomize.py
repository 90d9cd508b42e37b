"""Kustomizations like those of users, and what kubectl renders for them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from booking_operator.devcluster.kubectl import Kubectl
from tools.project import ROOT

MANIFESTS = ROOT / "manifests"
SYSTEM = "booking-operator-system"
Objects = dict[tuple[str, str], dict[str, Any]]


def write_overlay(
    directory: Path, *, resources: Iterable[Path] = (), components: Iterable[Path] = (), **more: Any
) -> Path:
    """Write a kustomization into a directory, and return the directory.

    Args:
        directory: an existing directory.
        resources: absolute paths.
        components: absolute paths.
        more: the other fields.
    """
    # kustomize accepts relative paths only.
    up = "../" * (len(directory.resolve().parts) - 1)
    paths = {"resources": resources, "components": components}
    relative = {key: [up + str(path)[1:] for path in found] for key, found in paths.items()}
    (directory / "kustomization.yaml").write_text(yaml.safe_dump({**relative, **more}))
    return directory


def rendered(kubectl: Kubectl, directory: Path) -> Objects:
    """The objects that `kubectl kustomize` renders for a directory, by kind and name."""
    return by_name(kubectl("kustomize", str(directory)))


def by_name(manifest: str) -> Objects:
    """The objects of a YAML text, by kind and name."""
    found = (item for item in yaml.safe_load_all(manifest) if item)
    return {(item["kind"], item["metadata"]["name"]): item for item in found}
