"""Plots of measurements, with matplotlib: each file turns numbers into a `Plot`, drawn when it is asked for."""
