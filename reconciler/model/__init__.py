"""The nouns: manifest, hire, sequence, settings, grant, verdict, status, record. No input or output happens here."""
