"""The checkout: revisions and what changed between them, files with their line numbers, and word of new commits."""
