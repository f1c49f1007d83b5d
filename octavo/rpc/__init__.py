"""The gRPC server, channel and error model that every process shares."""
