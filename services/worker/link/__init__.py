"""The link between the front and its ranks, and what both of its ends agree on."""
