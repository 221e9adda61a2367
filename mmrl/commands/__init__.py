"""The commands: thin functions over the library."""
