"""Backups: of the embedded cluster as it is on the disk, or of the ledger's schemas in any database; and back again."""
