"""A complete Kubernetes cluster of one node on this machine, with real pods.

It needs no container daemon, no registry and no internet. Everything is in one directory, and listens on
loopback or on a bridge of its own. The name of this directory identifies what a killed run left behind, and
the next run removes it.
"""
