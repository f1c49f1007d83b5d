"""Tests of octavo/client."""
