"""The gateway: takes requests over gRPC and HTTP, and brings tokenizer and workers together."""
