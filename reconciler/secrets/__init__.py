"""Secrets at rest: initial data through GnuPG and SOPS, and sealed runtime secrets."""
