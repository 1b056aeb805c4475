"""What is told to whom: notifications, alerts, their rules and their delivery."""
