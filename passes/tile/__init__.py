"""passes/tile."""
