"""The group's front: listener, health and open requests; starts, watches and restarts ranks."""
