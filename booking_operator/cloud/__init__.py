"""Cloud services. `driver` is the interface to the reconcilers; the other modules implement it for AWS."""
