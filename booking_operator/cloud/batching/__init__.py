"""Sending: combines orders into few calls, within the request limits."""
