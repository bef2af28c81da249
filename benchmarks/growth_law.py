"""Growth as NLST has it: fits the law ``real`` of `data_prep progression`, and holds each law against the tables.

Growth is the cube root of GM-AE's volumes at T1 over T0. They are by its own segmentation, whose error is therefore in
it; an outcome is the participant's, so that some nodules of participants with a cancer are benign. Mixtures of log
growth, mean and variance in proportion to time, by expectation maximisation; as many components as BIC prefers.

    python benchmarks/growth_law.py NLSTT_GROWTH nlst_780_canc_idc_20210527.csv --figure growth_law.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

import data_prep  # noqa: F401 (puts the bundle on the path)
from data_prep.progression.growth import YEAR
from data_prep.progression.laws import OUTCOMES, Law, read

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
STABLE_MM = 1.5
DRAWS = 50_000

console = Console(width=120)


class Growth(NamedTuple):
    """Factors of the diameter (N,), days between the scans, and the participants' outcomes."""

    factor: np.ndarray
    days: np.ndarray
    malignant: np.ndarray


def measured(folder: Path, first: int = 0, second: int = 1) -> Growth:
    """GM-AE's nodules with a volume at both times, and a second time after the first."""
    table = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("gmae_pair_nodules_*.csv"))])
    days = table[f"days{second}"] - table[f"days{first}"]
    factor = (table[f"volume{second}"] / table[f"volume{first}"]) ** (1 / 3)
    good = (days > 0) & np.isfinite(factor) & (factor > 0)
    return Growth(factor[good].to_numpy(), days[good].to_numpy(), table["lung_cancer"][good].to_numpy())


def diameters(folder: Path, cancers: Path) -> tuple[np.ndarray, Growth]:
    """Diameters in mm at T0 of STMixer's nodules that have one at T1 too, and their growth.

    Args:
        cancers: the trial's table `canc`; outcomes are the participants', as GM-AE's are.
    """
    table = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("stmixer_growth_nodule_*.csv"))])
    table = table[table["Seg_diam0"].notna() & table["Seg_diam1"].notna()]
    malignant = table["id"].str.split("_").str[0].astype(int).isin(pd.read_csv(cancers)["pid"]).astype(int)
    size, days = table["Seg_diam0"].to_numpy(), (table["days1"] - table["days0"]).to_numpy()
    return size, Growth(table["Seg_diam1"].to_numpy() / size, days, malignant.to_numpy())


def fit(factor: np.ndarray, days: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Share, drift and sd of each component (3, count), and BIC: log growth ~ N(drift t, sd² t), t in years."""
    x, t = np.log(factor)[:, None], (days / YEAR)[:, None]
    share = np.full(count, 1 / count)
    drift = np.linspace(np.median(x), np.quantile(x, 0.85), count)
    sd = np.std(x) * np.geomspace(0.4, 2.0, count)
    for _ in range(3000):
        joint = share * norm.pdf(x, drift * t, sd * np.sqrt(t))
        weight = joint / joint.sum(axis=1, keepdims=True)
        share, drift = weight.mean(axis=0), (weight * x).sum(axis=0) / (weight * t).sum(axis=0)
        sd = np.sqrt((weight * (x - drift * t) ** 2 / t).sum(axis=0) / weight.sum(axis=0))
    bic = -2 * np.log(joint.sum(axis=1)).sum() + (3 * count - 1) * np.log(len(x))
    return np.stack([share, drift, sd]), float(bic)


def simulated(law: Law, days: np.ndarray | None, malignant: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A factor by a law for each outcome, over these intervals or the law's own."""
    days = np.array([law.draw_interval(rng) for _ in malignant]) if days is None else days
    return np.array([law.growth[int(y)].draw(t, rng) for y, t in zip(malignant, days, strict=True)])


def print_fit(real: Growth, days: np.ndarray) -> None:
    """The parameters as they stand in data_prep/progression/laws/real.yaml."""
    console.print("interval_days:", {share: round(np.quantile(days, share)) for share in (0.0, *QUANTILES, 1.0)})
    for outcome, name in enumerate(OUTCOMES):
        some = real.malignant == outcome
        fits = {count: fit(real.factor[some], real.days[some], count) for count in (1, 2, 3, 4)}
        best = min(fits, key=lambda count: fits[count][1])
        console.print(f"{name} ({some.sum()}): BIC", {count: round(bic, 1) for count, (_, bic) in fits.items()})
        for share, drift, sd in fits[best][0].T:
            console.print(f"  share {share:.3f}, drift {drift:.3f}, sd {sd:.3f}")


def describe(growth: np.ndarray, malignant: np.ndarray) -> list[str]:
    """Moments by outcome, and how well growth tells the outcomes."""
    cells = []
    for outcome in (1, 0):
        part = growth[malignant == outcome]
        cells.append(f"{np.median(part):.2f} / {part.mean():.2f} / {part.std(ddof=1):.2f}")
    return [*cells, f"{roc_auc_score(malignant, growth):.3f}"]


def main(
    folder: Path, cancers: Path, figure: Annotated[Path | None, typer.Option(help="PNG to write.")] = None
) -> None:
    """Prints the fit and the comparison of each law with the tables."""
    rng = np.random.default_rng(0)
    real, later, (size, small) = measured(folder), measured(folder, 0, 2), diameters(folder, cancers)
    print_fit(real, real.days)
    outcomes = np.repeat([0, 1], DRAWS)
    drawn = {name: simulated(read(name), None, outcomes, rng) for name in ("real", "published")}
    twice = simulated(read("real"), np.tile(rng.choice(later.days, DRAWS), 2), outcomes, rng)
    table = Table("growth of the diameter", "malignant: median / mean / sd", "benign", "AUROC")
    table.add_row("NLST, T0 to T1", *describe(real.factor, real.malignant))
    for name, factors in drawn.items():
        table.add_row(f"law {name}", *describe(factors, outcomes))
    table.add_row("NLST, T0 to T2 (not fitted)", *describe(later.factor, later.malignant))
    table.add_row("law real, T0 to T2", *describe(twice, outcomes))
    console.print(table)
    changes = {"NLST": (size * (small.factor - 1)).round(6)}
    for name in drawn:
        changes[f"law {name}"] = size * (simulated(read(name), small.days, small.malignant, rng) - 1)
    title = f"{len(size):,} nodules of STMixer, {small.malignant.sum():,} malignant"
    table = Table(title, f"within {STABLE_MM} mm", "grow by more", "shrink by more")
    for name, each in changes.items():
        shares = np.abs(each) <= STABLE_MM, each > STABLE_MM, each < -STABLE_MM
        table.add_row(name, *(f"{share.mean():.1%}" for share in shares))
    console.print(table)
    if figure is not None:
        draw(real, drawn, outcomes, figure)


def draw(real: Growth, drawn: dict[str, np.ndarray], outcomes: np.ndarray, figure: Path) -> None:
    """Distribution functions of growth by outcome: measured, and by each law."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    picture, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharey=True)
    for axis, outcome in zip(axes, (1, 0), strict=True):
        axis.ecdf(real.factor[real.malignant == outcome], label="NLST, measured", color="black")
        for name, factors in drawn.items():
            axis.ecdf(factors[outcomes == outcome], label=f"law {name}")
        count = (real.malignant == outcome).sum()
        axis.set(xlim=(0.5, 2.5), xlabel="diameter, follow-up over baseline", title=f"{OUTCOMES[outcome]} ({count:,})")
    axes[0].set_ylabel("share of nodules")
    axes[0].legend(frameon=False)
    picture.savefig(figure, dpi=120)


if __name__ == "__main__":
    typer.run(main)
