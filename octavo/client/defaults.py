"""What a client does unless it is told otherwise."""

DEFAULT_PORT = 8001
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
DEFAULT_TIMEOUT_S = 600.0
DEFAULT_RETRIES = 2
