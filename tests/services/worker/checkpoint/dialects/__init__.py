"""Tests of services.worker.checkpoint.dialects."""
