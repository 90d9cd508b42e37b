"""The reconciler of Resources: its snapshot, its orders, its power decisions."""
