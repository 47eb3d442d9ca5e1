"""Store sync: a worker that pays for what it did (`syncing.py`), its HTTP interface (`app.py`), its file (`store.py`)."""
