"""Ask services: checks, listings, and what a manifest can be asked."""
