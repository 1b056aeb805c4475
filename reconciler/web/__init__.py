"""What is served on `listen`: health, readiness, metrics, and the OAuth callback."""
