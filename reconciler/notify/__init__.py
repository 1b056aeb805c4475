"""Notifications and alerts: when one is due, and its delivery."""
