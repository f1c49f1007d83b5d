"""Commands that make and look into checkpoints."""
