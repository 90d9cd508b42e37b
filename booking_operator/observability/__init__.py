"""Metrics, health probes and logs. This package reads the state of the operator and changes nothing."""
