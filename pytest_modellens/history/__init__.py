"""A metric over all recorded runs: what it was, and from which commit on it was something else."""
