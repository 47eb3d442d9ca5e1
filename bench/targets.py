"""What the ledger is to reach, each with the figure that says whether it does; a quotient where the target is relative."""

from dataclasses import dataclass

from service.benching.figures import Figures


@dataclass(frozen=True, slots=True)
class Target:
    """One line: `figure`, divided by `by` where there is one, is to be at least `least` or at most `most`."""

    what: str
    figure: str
    by: str | None = None
    least: float | None = None
    most: float | None = None

    def found(self, figures: Figures) -> float | None:
        """What was measured, or None when it was not."""
        value, by = figures.get(self.figure), 1.0 if self.by is None else figures.get(self.by)
        if value is None or by is None:
            return None
        return float(value) / float(by)

    def is_met(self, found: float) -> bool:
        """Whether that is enough."""
        return (self.least is None or found >= self.least) and (self.most is None or found <= self.most)

    @property
    def wanted(self) -> str:
        """The target as text."""
        return f"at least {number(self.least)}" if self.least is not None else f"at most {number(self.most or 0)}"


def rate(case: str) -> str:
    """The name of a case's rate."""
    return f"{case}.per_second"


TARGETS = (
    Target("in process, uniform, 512 in flight: commands/s", rate("in_process.uniform.512"), least=40_000),
    Target("in process, one hot account, 512 in flight: commands/s", rate("in_process.hot.512"), least=60_000),
    Target("the same, uniform, to COPY (primary key)", rate("in_process.uniform.512"), rate("copy.plain"), least=0.3),
    Target("the same, uniform, to COPY (all indexes)", rate("in_process.uniform.512"), rate("copy.indexed"), least=0.3),
    Target(
        "hot account to the naive transaction, 32 clients", rate("in_process.hot.512"), rate("naive.hot.32"), least=20
    ),
    Target("the same with 2 ms for each fsync", rate("slow.in_process.hot.512"), rate("slow.naive.hot.32"), least=60),
    Target("batches of 1,000 in process: commands/s", rate("in_process.batch.1000"), least=65_000),
    Target("the same over NATS to in process", rate("nats.batch.1000"), rate("in_process.batch.1000"), least=0.7),
    Target("the same over HTTP to in process", rate("http.batch.1000"), rate("in_process.batch.1000"), least=0.7),
    Target("NATS, uniform, 512 in flight: commands/s", rate("nats.uniform.512"), least=25_000),
    Target("HTTP, 64 connections, to an empty handler", rate("http.uniform.64"), rate("empty_http.64"), least=0.4),
    Target(
        "balance reads over HTTP to an empty handler", rate("http.balance.64"), rate("empty_http.get.64"), least=0.5
    ),
    Target("alone in process: p50 in ms", "in_process.uniform.1.p50_ms", most=1),
    Target("alone over NATS: p50 in ms", "nats.uniform.1.p50_ms", most=2),
    Target("half of the load in process: p99 in ms", "in_process.half.p99_ms", most=10),
    Target("half of the load over NATS: p99 in ms", "nats.half.p99_ms", most=10),
    Target("replay with hashes and evolve: events/s", "replay.per_second", least=100_000),
    Target("audit verify of a million events: seconds", "verify.seconds_for_a_million", most=15),
    Target("cost of a command with 1,000,000 events", "growth.events.1000000.cost", most=1.5),
    Target("and then with 100,000 accounts", "growth.accounts.100000.cost", most=1.5),
    Target("and then with 100,000 open holds", "growth.holds.100000.cost", most=1.5),
)

LONG_TARGETS = (
    Target("cost of a command with 10,000,000 events", "growth.events.10000000.cost", most=1.5),
    Target("and then with 1,000,000 accounts", "growth.accounts.1000000.cost", most=1.5),
    Target("and then with 1,000,000 open holds", "growth.holds.1000000.cost", most=1.5),
)


def number(value: float) -> str:
    """A figure as people read it: three digits that count, thousands with commas."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
