"""Who gave access, by the commits of the repository."""
