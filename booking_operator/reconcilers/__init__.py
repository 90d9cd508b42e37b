"""One reconciler per kind: reads the caches, lets the domain decide, has the decision carried out."""
