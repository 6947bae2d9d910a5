"""passes/host."""
