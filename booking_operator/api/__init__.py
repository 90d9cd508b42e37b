"""The wire models of the API group `manager.kotaico.de/v1`, and the generator of their CRDs."""
