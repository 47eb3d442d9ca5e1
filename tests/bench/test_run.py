"""The bench itself, from its servers to its figures: short, without a meaning, and for the soak only."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.soak
def test_a_quick_run_measures_every_case(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    run = [sys.executable, "-m", "bench", "--quick", "--output", str(output)]
    ran = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    listed = subprocess.run([*run, "--list"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    figures = orjson.loads(output.read_bytes())
    for case in listed.stdout.split():
        assert f"{case}.per_second" in figures or case == "growth"
    assert all(isinstance(value, int | float) for name, value in figures.items() if name not in {"machine", "commit"})
