"""The database's schema: numbered .sql files, forward only, checksummed."""
