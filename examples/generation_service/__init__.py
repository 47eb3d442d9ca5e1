"""The reference generation service: teams train models and make images with them, and pay for what was made.

    app.py          the HTTP interface
    generation.py   what may happen to a job, from the request to the last credit; start reading here
    jobs.py         what a job is, and what it costs
    store.py        jobs and models in a SQLite file: the truth about a job
    queue.py        the queue on JetStream: delivery, never the truth
    worker.py       takes jobs from the queue to the provider
    upkeep.py       finishes what a crash or an outage interrupted
    provider.py     the provider's interface and signed webhooks; fake_provider.py is one that fails on demand

A job is decided once, by one statement on its row, whoever decides it: webhook, cancel, worker or upkeep. What it costs
follows from that decision, with keys made from the hold's id; so it may be sent again by anybody, and counts once.
"""
