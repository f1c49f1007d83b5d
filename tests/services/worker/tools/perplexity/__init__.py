"""Tests of services/worker/tools/perplexity."""
