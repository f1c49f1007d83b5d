"""What can go wrong outside of this program while a model is prepared."""

from __future__ import annotations


class PrepareError(Exception):
    """The model cannot be prepared; the message is one line that says why and what to do."""
