"""Writing a manifest: its tests, and a try against the service in the open."""
