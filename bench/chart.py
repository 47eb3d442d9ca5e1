"""The chart of a run as SVG: rates as bars on a scale of tens, because they differ by a factor of a hundred."""

from html import escape
from math import log10

from bench.targets import number, rate
from service.benching.figures import Figures

BARS = (
    ("COPY of the same rows", "copy.plain", "baseline"),
    ("batches of 1,000, in process", "in_process.batch.1000", "ledger"),
    ("batches of 1,000, NATS", "nats.batch.1000", "ledger"),
    ("batches of 1,000, HTTP", "http.batch.1000", "ledger"),
    ("single, one hot account, in process", "in_process.hot.512", "ledger"),
    ("single, uniform, in process", "in_process.uniform.512", "ledger"),
    ("single, uniform, NATS", "nats.uniform.512", "ledger"),
    ("single, uniform, HTTP, 64 connections", "http.uniform.64", "ledger"),
    ("empty aiohttp handler, 64 connections", "empty_http.64", "baseline"),
    ("balance reads, HTTP", "http.balance.64", "ledger"),
    ("naive transaction, uniform, 32 clients", "naive.uniform.32", "baseline"),
    ("naive transaction, one hot account, 32 clients", "naive.hot.32", "baseline"),
    ("2 ms for each fsync: ledger, one hot account", "slow.in_process.hot.512", "ledger"),
    ("2 ms for each fsync: naive, one hot account", "slow.naive.hot.32", "baseline"),
)
COLOURS = {"ledger": "#2563eb", "baseline": "#94a3b8"}
WIDTH, LABEL_WIDTH, VALUE_WIDTH = 860, 320, 80
ROW, TOP, BOTTOM = 24, 40, 34
FIRST_POWER = 2


def chart(figures: Figures) -> str:
    """The chart of what was measured; bars of what was not are left out."""
    bars = [(label, float(figures[rate(case)]), kind) for label, case, kind in BARS if rate(case) in figures]
    last_power = max([FIRST_POWER + 1, *(int(log10(value)) + 1 for _, value, _ in bars if value > 0)])
    height = TOP + ROW * len(bars) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"',
        'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="Rates of the ledger and of baselines">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="10" y="22" font-weight="600">a second, medians; commands, or rows, transactions and requests</text>',
    ]
    for power in range(FIRST_POWER, last_power + 1):
        x = place(10.0**power, last_power)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="#e2e8f0"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - BOTTOM + 18}" text-anchor="middle" fill="#475569">{10**power:,}</text>'
        )
    for row, (label, value, kind) in enumerate(bars):
        y, end = TOP + row * ROW, place(value, last_power)
        parts.append(f'<text x="{LABEL_WIDTH - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
        parts.append(
            f'<rect x="{LABEL_WIDTH}" y="{y + 2}" width="{end - LABEL_WIDTH:.1f}" height="{ROW - 7}" fill="{COLOURS[kind]}"/>'
        )
        parts.append(f'<text x="{end + 6:.1f}" y="{y + 14}">{number(value)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def place(value: float, last_power: int) -> float:
    """Where a rate lies, from left to right."""
    share = (log10(max(value, 10.0**FIRST_POWER)) - FIRST_POWER) / (last_power - FIRST_POWER)
    return LABEL_WIDTH + share * (WIDTH - LABEL_WIDTH - VALUE_WIDTH)
