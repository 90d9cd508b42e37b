"""Observation: which instances exist, and their states."""
