"""How results are written: tables, JSON, Markdown, CSV, logs."""
