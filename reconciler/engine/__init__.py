"""One pass: observe → plan → attempt → record."""
