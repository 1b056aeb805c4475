"""Secrets at rest: initial data through GnuPG and SOPS, and the sealed store for what only a running program knows."""
