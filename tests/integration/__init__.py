"""Libraries that others wrote, unmodified, at work on the loops under test; `make integration` runs them.

Collected with --integration only: they want the extra `integration` of pyproject.toml, PostgreSQL and Redis.
"""
