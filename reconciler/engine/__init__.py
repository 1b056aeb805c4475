"""Make one pass: observe, plan, execute, record."""
