"""The whole program on one machine: sample services on loopback, and a walk-through."""
