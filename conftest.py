"""The project's own tests: pytest's plugin-testing fixture, and nothing else."""

pytest_plugins = ["pytester"]
