"""passes/lower."""
