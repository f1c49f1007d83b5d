"""One rank: the process that holds a shard of the weights and runs the engine's steps."""
