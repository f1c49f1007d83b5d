"""Faults injected into the whole product, and what must be seen of them."""
