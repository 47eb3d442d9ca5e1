"""The honest referee: what the ledger does a second, beside what the same machine does without it.

`python -m bench` starts embedded servers with fsync on, measures every case in rounds that take turns (so that a
slow minute of the machine hits all cases alike), throws the first round away, and prints medians with ratios.
Baselines and ledger run in the same minutes against the same PostgreSQL and the same NATS server.

Who does what, in the order in which to read:

- `service.benching`, which ships with the ledger: the pump, which hands out prepared requests and takes the time of
  their answers; the requests; the load generators for HTTP and NATS, each as lean as Python allows;
- `jobs`: what a load process may be asked to do; `worker`: that process; `target`: the ledger inside of it;
- `load_in_process`, `load_wire`, `load_sql`, `load_disk`, `replay`: what the jobs do;
- `empty_http`, `empty_nats`: the empty servers, which show what the libraries cost without a ledger behind them;
- `slow_disk`: PostgreSQL on a disk with 2 ms for each fsync;
- `stage`: the servers and processes of one run; `cases`: all that is measured in rounds; `rounds`: how;
- `growth`: what a command costs when there is much, and how fast the log is verified and replayed;
- `report`, `targets`, `chart`, `page`: the figures, what they should be, and where they are kept.
"""
