"""Why `octavo serve` ends."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2


class LaunchError(Exception):
    """Something ends the launch; the message is for the user, `status` is the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
