"""The gateway: the public wire, gRPC and HTTP."""
