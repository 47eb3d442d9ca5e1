"""Everything with I/O: the ledger's writers and readers, and the programs that run them."""

PREFIX = "LEDGER_"
"""What the names of all settings begin with."""
