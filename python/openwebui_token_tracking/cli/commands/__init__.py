"""The groups of commands of version 0.1."""
