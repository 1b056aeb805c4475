"""The whole thing on one machine: sample services on loopback, and the walk through them."""
