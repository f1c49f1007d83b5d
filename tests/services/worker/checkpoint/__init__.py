"""Tests of services.worker.checkpoint."""
