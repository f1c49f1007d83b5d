"""Benchmarks: each explains its regime, prints what it measured, and ends with a line of JSON."""
