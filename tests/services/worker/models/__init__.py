"""Tests of services.worker.models."""
