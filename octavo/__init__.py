"""Octavo: FP8 language models over gRPC. Importing this package imports nothing heavy."""

__version__ = "0.1.0"
