"""Sending: orders become few calls, within the request limits."""
