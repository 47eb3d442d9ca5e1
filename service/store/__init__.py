"""The log and its tables in PostgreSQL: the only package that imports asyncpg."""
