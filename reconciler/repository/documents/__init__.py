"""Files as users write them: YAML with line numbers, schemas, problems."""
