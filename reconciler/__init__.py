"""GitOps for people's accounts: make the access in SaaS tools match the files in git."""

__version__ = "0.1.0"
