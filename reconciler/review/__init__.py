"""What a person reads before and after a pass: problems, differences, one grant in detail, access reviews."""
