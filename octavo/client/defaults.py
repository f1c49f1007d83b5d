"""What a client does unless it is told otherwise."""

DEFAULT_ADDRESS = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 600.0
DEFAULT_RETRIES = 2
