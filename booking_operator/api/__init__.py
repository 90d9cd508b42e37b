"""Wire models of the API group `manager.kotaico.de/v1`, and the CRDs that are generated from them."""
