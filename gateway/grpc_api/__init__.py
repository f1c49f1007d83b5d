"""The gRPC door: handlers of a few lines; protobuf stops here."""
