"""Typed clients of Octavo's services."""
