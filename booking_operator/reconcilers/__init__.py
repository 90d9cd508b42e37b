"""One reconciler per kind: each reads the caches, lets the domain decide, and has the decision carried out."""
