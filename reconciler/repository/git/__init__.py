"""Git: revisions, trees, signatures, fetching and watching."""
