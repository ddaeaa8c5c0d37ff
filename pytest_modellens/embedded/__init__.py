"""A small model that runs on this machine: its weights, the process that serves them, and how to get both."""
