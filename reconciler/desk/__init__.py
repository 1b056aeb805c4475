"""The desk: a page where people without git ask for access."""
