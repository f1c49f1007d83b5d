"""The OpenAI-compatible HTTP door: bodies in, server-sent events or one JSON answer out."""
