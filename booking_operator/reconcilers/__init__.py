"""The reconcilers: each one reads the caches, applies the rules of `domain`, and carries out the decision."""
