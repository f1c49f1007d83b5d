"""Tests of services.worker.kernels."""
