"""People and accounts from where they already are, as hires' files."""
