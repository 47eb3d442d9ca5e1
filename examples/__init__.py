"""Services that use the ledger by its client: what a service developer reads first, and copies.

asset_platform       six gated endpoints and three that cost nothing
generation_service   jobs on a queue: hold, worker, provider's webhook, cancel, retries, limits, expiring results
store_sync           a worker that pays for what it did, pauses without credits, and goes on when there are some

Each starts with one command (`.venv/bin/python -m examples.asset_platform`), on a ledger of its own. They import
`credit_ledger_client` and nothing of the service; only `starting.py` knows how a ledger is started.
"""
