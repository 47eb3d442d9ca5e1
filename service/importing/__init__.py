"""Opening balances from a file: `rows` reads it, `importer` books it, `command` is what a person runs."""
