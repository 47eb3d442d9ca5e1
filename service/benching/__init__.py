"""Load for a ledger that runs, and the time of its answers: what `credit-ledger bench` and the bench of this repository share.

`pump` hands out prepared requests and takes times; `requests` makes the requests as bytes; `http_load` and `nats_load`
speak the two protocols themselves, each as lean as Python allows, because a load generator that shares the machine with
what it measures takes from it. `command` is what a user runs: `plan` says what it measures, `running` does it.
"""
