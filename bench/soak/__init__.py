"""The soak test: an hour of the operator at twenty times the density of a usual fleet; see docs/soak.md."""
