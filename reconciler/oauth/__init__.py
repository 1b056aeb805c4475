"""OAuth: a service's connection, its authorization, its tokens."""
