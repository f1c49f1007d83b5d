"""A worker group: one model over N devices."""
