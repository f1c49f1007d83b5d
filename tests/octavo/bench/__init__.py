"""Tests of octavo.bench."""
