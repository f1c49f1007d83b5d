"""Tests of the tokenizer backends."""
