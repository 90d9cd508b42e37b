"""A whole Kubernetes cluster of one node on this machine: pods run for real.

No container daemon is needed, no registry and no internet. Everything lies in one directory, and listens on
loopback or on a bridge of its own; whatever a killed run has left, the next one finds
by that directory's name.
"""
