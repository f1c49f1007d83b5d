"""Tests of a rank."""
