"""Directories as a transport, through python-ldap."""
