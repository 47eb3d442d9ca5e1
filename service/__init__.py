"""Everything with I/O: the ledger's writers and readers, and the programs that run them."""
