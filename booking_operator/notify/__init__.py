"""Delivers the notifications that a booking ends: one module per channel."""
