"""The whole product: real processes on real ports."""
