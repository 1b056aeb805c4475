"""Ready manifests, as package data in `manifests/`, with metadata in their heads."""
