"""Makes the documentation site out of docs/ (`make docs`); the program itself needs nothing of it."""
