"""One generation of ranks, started through PyTorch's elastic launcher."""
