"""Other engines, each measured beside ours in one run."""
