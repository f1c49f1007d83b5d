"""Tests of services.worker.model_config."""
