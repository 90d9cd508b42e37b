"""A Kubernetes control plane and a fake AWS on loopback, for the demo and the tests.

It needs only Python and the package registries. Programs that are not on the machine are built once from
published Go modules, and stored in the user's cache directory.
"""
