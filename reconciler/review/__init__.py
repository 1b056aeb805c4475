"""What a person reads before and after: problems, differences, one grant in depth."""
