"""What `listen` serves: the pages, health, readiness, metrics, and the OAuth callback."""
