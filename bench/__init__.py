"""The honest referee: what the ledger does a second, beside what the same machine does without it.

`python -m bench` starts embedded servers with fsync on, measures every case in rounds that take turns (so that a
slow minute of the machine hits all cases alike), throws the first round away, and prints medians with ratios.
Baselines and ledger run in the same minutes against the same PostgreSQL and the same NATS server.

Who does what, in the order in which to read:

- `measure`: the pump, which hands out prepared requests and takes the time of their answers, and a round's figures;
- `jobs`: what a load process may be asked to do; `worker`: that process;
- `load_sql`, `load_http`, `load_nats`, `load_in_process`: the load generators, each as lean as Python allows;
- `empty_http`, `empty_nats`: the empty servers, which show what the libraries cost without a ledger behind them;
- `stage`: the servers and processes of one run; `cases`: the list of all that is measured; `report`: the figures.
"""
