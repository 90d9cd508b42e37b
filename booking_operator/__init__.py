"""Kubernetes operator that starts and stops groups of tagged cloud instances by bookings."""
