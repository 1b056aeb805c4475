"""When: commits, due retries, the interval, and what people ask for. What a pass does is the engine's."""
