"""When passes are made: after commits, for due retries, each interval, and when people ask. The engine makes them."""
