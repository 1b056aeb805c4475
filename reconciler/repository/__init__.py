"""The repository: revisions and their differences, files with line numbers, notice of new commits."""
