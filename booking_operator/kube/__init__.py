"""The Kubernetes API, and the only package that imports kubernetes_asyncio.

The operator uses only the configuration of kubernetes_asyncio. But the `__init__` modules of the package and
of its client import about a thousand generated modules, which takes 34 MiB and a third of the start time
(docs/bench.md). This module therefore puts both packages into `sys.modules` without running their `__init__`.
The import system then finds their modules as usual.
"""

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType


def _registered(name: str) -> ModuleType:
    """Return the package `name`; do not run its `__init__` if it is not imported yet."""
    if name not in sys.modules:
        spec = find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
        sys.modules[name] = module_from_spec(spec)
    return sys.modules[name]


_registered("kubernetes_asyncio")
_client = _registered("kubernetes_asyncio.client")
if not hasattr(_client, "Configuration"):
    from kubernetes_asyncio.client.configuration import Configuration

    # kubernetes_asyncio.config imports these names. It creates an ApiClient only on request.
    vars(_client).update(Configuration=Configuration, ApiClient=None)
