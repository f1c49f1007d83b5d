"""Tests of gateway/openai/."""
