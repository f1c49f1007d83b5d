"""Tests of services.worker.stored_tensors."""
