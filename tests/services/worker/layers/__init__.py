"""Tests of services.worker.layers."""
