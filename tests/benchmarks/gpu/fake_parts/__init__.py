"""Parts that do what real ones may do."""
