"""Tests of services.worker.parallel."""
