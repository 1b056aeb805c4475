"""`python -m bench [NAME …]`: every figure, as JSON lines and a table.

A figure is a ratio of what the program does to a baseline measured in the same round, the two in turn; the medians of
its rounds count, and the spread of the baseline says how noisy the machine was.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict, dataclass
from itertools import islice

from bench import figures


@dataclass(frozen=True)
class Result:
    """One figure: medians of both sides, the ratio's median, and the baseline's spread in percent."""

    name: str
    unit: str
    ours: float
    baseline: float
    ratio: float
    spread: float
    reach: str

    def line(self) -> str:
        """The figure as a row of the table."""
        return (
            f"{self.name:<44} {self.ours:>10.4g} {self.unit:<6} baseline {self.baseline:>10.4g}"
            f"  ratio {self.ratio:>7.3f}  spread {self.spread:>4.0f} %  reach {self.reach}"
        )


def measure(name: str, figure: figures.Figure) -> Result:
    """Run a figure's rounds; each gives what the program did and what the baseline did."""
    rounds = list(islice(figure.run(), figure.rounds))
    ours, base = [pair[0] for pair in rounds], [pair[1] for pair in rounds]
    middle = statistics.median(base)
    spread = 100 * (max(base) - min(base)) / middle if middle else 0.0
    ratio = statistics.median(mine / theirs for mine, theirs in rounds) if all(base) else float("nan")
    return Result(name, figure.unit, statistics.median(ours), middle, ratio, spread, figure.reach)


def main(names: list[str]) -> None:
    """Measure the figures of these names, or all: rows to stderr, a JSON object a line to stdout."""
    unknown = [name for name in names if name not in figures.ALL]
    if unknown:
        sys.exit(f"no figure of that name: {', '.join(unknown)}; there are: {'; '.join(figures.ALL)}")
    for name, figure in figures.ALL.items():
        if names and name not in names:
            continue
        result = measure(name, figure)
        sys.stderr.write(result.line() + "\n")
        sys.stdout.write(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
