"""Tests of services/worker/tools/quantize."""
