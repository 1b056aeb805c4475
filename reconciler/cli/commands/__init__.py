"""The commands, each a module that imports what it needs when it runs."""
