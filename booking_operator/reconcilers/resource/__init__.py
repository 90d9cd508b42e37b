"""The reconciler of Resources, the snapshots that it decides on, and the orders that it places."""
