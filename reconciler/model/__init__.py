"""The model: manifest, hire, sequence, settings, grant, verdict, status, record. No I/O."""
