"""The Kubernetes API, and the only package that imports kubernetes_asyncio.

No more than its configuration is used. But to import any module of kubernetes_asyncio is to import a
thousand: its `__init__` and that of its client name every API and model that were generated, which takes
33 MiB and a fifth of a second. So both packages are registered here, before any module below is imported,
without their `__init__` being run; their modules are then found as usual.
"""

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType


def _registered(name: str) -> ModuleType:
    """The package `name`, imported before or not; its `__init__` is not run."""
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

    # What kubernetes_asyncio.config takes from the client. It makes an ApiClient only if asked for one.
    vars(_client).update(Configuration=Configuration, ApiClient=None)
