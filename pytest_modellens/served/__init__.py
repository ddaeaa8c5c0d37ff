"""Servers that are started by a command of the user's, for as long as they are measured."""
