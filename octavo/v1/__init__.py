"""Generated from protos/octavo/v1 by `make stubs`. Do not edit."""
