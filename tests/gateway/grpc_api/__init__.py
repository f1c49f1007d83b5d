"""Tests of gateway/grpc_api."""
