"""Observation: which instances exist, and in which state."""
