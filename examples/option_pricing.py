"""Price a call option by Monte Carlo: servers simulate, the estimate sharpens before your eyes, and stops when good.

Batches of paths are simulated with numpy, as many at once as there are servers for. Their results are added up as they
come; the plot shows how the 95 % interval shrinks. When it is narrow enough, what is still under way is cancelled.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


WIDTH = 60


@dataclass(frozen=True)
class Option:
    """The right to buy a share for the strike at the end of the term; instances travel to the servers."""

    strike: float
    spot: float = 100.0
    rate: float = 0.03
    volatility: float = 0.2
    years: float = 1.0

    def exact(self) -> float:
        """Give the price by the formula of Black and Scholes, to compare."""
        spread = self.volatility * math.sqrt(self.years)
        high = (math.log(self.spot / self.strike) + (self.rate + self.volatility**2 / 2) * self.years) / spread
        discounted = self.strike * math.exp(-self.rate * self.years)
        return self.spot * NormalDist().cdf(high) - discounted * NormalDist().cdf(high - spread)


def simulate(option: Option, seed: int, paths: int) -> tuple[int, float, float]:
    """Simulate ends of the term; give their number, and sum and sum of squares of what is paid.

    This runs in a thread of a server.
    """
    import numpy as np  # noqa: PLC0415 - only the servers need it

    normal = np.random.default_rng(seed).standard_normal(paths)
    drift = (option.rate - option.volatility**2 / 2) * option.years
    ends = option.spot * np.exp(drift + option.volatility * math.sqrt(option.years) * normal)
    pays = np.maximum(ends - option.strike, 0.0) * math.exp(-option.rate * option.years)
    return paths, float(pays.sum()), float((pays**2).sum())


class Estimate:
    """What the batches so far have given."""

    def __init__(self) -> None:
        self.paths, self.sum, self.squares = 0, 0.0, 0.0
        self.rows: list[tuple[int, float, float]] = []

    def add(self, paths: int, total: float, squares: float) -> None:
        """Add a batch; note the estimate whenever the number of paths has doubled."""
        self.paths, self.sum, self.squares = self.paths + paths, self.sum + total, self.squares + squares
        if not self.rows or self.paths >= 2 * self.rows[-1][0]:
            self.rows.append((self.paths, self.mean, self.half))

    @property
    def mean(self) -> float:
        """The price."""
        return self.sum / self.paths

    @property
    def half(self) -> float:
        """Half the width of the 95 % interval."""
        variance = max(self.squares / self.paths - self.mean**2, 0.0)
        return 1.96 * math.sqrt(variance / self.paths)

    def plot(self) -> Text:
        """Draw the intervals below each other, the last one as it is now."""
        rows = [*self.rows, (self.paths, self.mean, self.half)]
        low = min(mean - half for _, mean, half in rows)
        scale = (WIDTH - 1) / (max(mean + half for _, mean, half in rows) - low or 1.0)
        lines = []
        for paths, mean, half in rows:
            left, middle, right = (round((at - low) * scale) for at in (mean - half, mean, mean + half))
            bar = " " * left + "─" * (middle - left) + "●" + "─" * (right - middle)
            lines.append(f"{paths:>12,} {bar:<{WIDTH}} {mean:.4f} ± {half:.4f}")
        return Text("\n".join(lines))


async def main(option: Option, tolerance: float, batch: int, cluster: Cluster) -> None:
    """Simulate until the 95 % interval is narrow enough."""
    estimate, console = Estimate(), Console()
    async with cluster, discoro.Computation([Option, simulate]).schedule() as computation:
        batches = ((option, seed, batch) for seed in itertools.count())  # without end: it is read as results are taken
        with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
            async with computation.starmap(simulate, batches, ordered=False) as results:
                async for result in results:
                    estimate.add(*result)
                    live.update(estimate.plot(), refresh=console.is_terminal)
                    if estimate.half <= tolerance:
                        break
    if not console.is_terminal:
        print(estimate.plot())
    print(f"The price is {estimate.mean:.4f} ± {estimate.half:.4f}; the formula gives {option.exact():.4f}.")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--strike", type=float, default=105.0, metavar="X", help="price to buy for (default: 105)")
    parser.add_argument("--tolerance", type=float, default=0.01, metavar="X", help="half the interval (default: 0.01)")
    parser.add_argument("--batch", type=int, default=100_000, metavar="N", help="paths of a job (default: 100,000)")
    options = parser.parse_args()
    if importlib.util.find_spec("numpy") is None:
        parser.error("it needs numpy: pip install numpy, at the nodes, too")
    run(main, Option(options.strike), options.tolerance, options.batch, cluster_of(options))
