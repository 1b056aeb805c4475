"""Parse users' files: YAML with line numbers, schemas, problems."""
