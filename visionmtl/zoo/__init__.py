"""Models that exist: the list of the published ones, model folders, checkpoints."""
