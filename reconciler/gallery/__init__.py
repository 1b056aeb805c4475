"""Ready manifests, as package data in `manifests/`, and what each of them says about itself in its head."""
