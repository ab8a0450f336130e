"""The wrong inputs, a module for each kind."""
