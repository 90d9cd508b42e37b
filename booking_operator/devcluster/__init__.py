"""A Kubernetes control plane and a fake AWS on loopback, for the demo and the tests.

It needs nothing but Python and the package registries: what is not found on the machine is built once, from
published Go modules, into the user's cache directory.
"""
