"""In-context regression on tables: real ones from files, and prompts drawn to be like them.

A prompt is some rows of a table and one more row whose target is to be predicted. Columns and
target are standardised by the rows that come before that one alone, columns that are constant there
are 0, and tables of fewer columns than the most are filled up with columns of 0.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float

from wsrnn.choices import choice
from wsrnn.errors import UserError
from wsrnn.files import find, read_csv
from wsrnn.tasks import Batch, Synthetic, clock
from wsrnn.tasks.drawn import Raw
from wsrnn.tasks.layouts import TrainOn
from wsrnn.tasks.prompts import Prompt, Prompts
from wsrnn.tasks.training import Finite, Fresh

SOURCE = "github.com/treforevans/uci_datasets (folder uci_datasets, as uci_regression)"
UCI = (
    "autompg", "autos", "breastcancer", "concreteslump", "fertility", "forest", "machine", "pol",
    "servo", "skillcraft", "sml", "solar", "yacht",
)  # fmt: skip
"""Those of `SOURCE` that are small."""
FAR = 8.0
"""Deviations within which targets of synthetic prompts are held: few would be all of the loss."""
CONSTANT = 1e-6
"""A column whose standard deviation is below so much of its largest value counts as constant."""


def scales(rows: Any, seen: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Mean, standard deviation and whether it is above 0 [..., 1, C] of the rows that are seen.

    rows [..., T, C], seen [..., T, 1] 0 or 1. The deviation of a constant column is given as 1.
    """
    count = seen.sum(-2, keepdims=True)
    mean = (seen * rows).sum(-2, keepdims=True) / count
    deviation = ((seen * (rows - mean) ** 2).sum(-2, keepdims=True) / count) ** 0.5
    varies = deviation > CONSTANT * (xp.abs(seen * rows).max(-2, keepdims=True) + 1e-30)
    return mean, xp.where(varies, deviation, 1), varies


@dataclass(frozen=True)
class Tables(Synthetic):
    """Rows of one real table: `examples` of them as context, then the query, ever drawn anew.

    The table is a csv of numbers with or without a line of names: one of UCI by its name, or a
    file by its path. All splits draw from all rows, each in a stream of its own: it is there to
    judge what was trained on other data. Tokens are (x, y) in the layout ReadBeforeWrite, so that
    a model of `SyntheticTables` with d = `columns` reads them as they are.
    """

    table: str = "autompg"
    """A name of `UCI`, or the path of a csv file (also .gz)."""
    target: str | None = None
    """Name of the column to predict; None is the last."""
    columns: int = 33
    """The most input columns; there are columns of 0 behind those of a smaller table."""
    examples: int = 50
    """Rows before the query."""
    data_dir: Path | None = None
    """Where uci_regression/NAME/data.csv.gz lies; else $WSRNN_DATA, else ~/.cache/wsrnn."""

    loss = "mse"
    answers_in_tokens = True
    d_out = 1

    def __post_init__(self):
        if self.columns < 1 or self.examples < 2:
            raise ValueError(
                f"Tables needs columns of at least 1 and examples of at least 2, got "
                f"{self.columns} and {self.examples}"
            )

    @property
    def d_in(self):
        """A token is x and y."""
        return self.columns + 1

    @property
    def length(self):
        """Examples and query."""
        return self.examples + 1

    def steps(self, split):
        """The query."""
        return "last"

    def rows(self) -> Float[np.ndarray, "R C"]:
        """The whole table, its target last; UserError if it cannot be read or is no table."""
        if self.table in UCI:
            path = find(f"uci_regression/{self.table}/data.csv", self.data_dir, SOURCE)
        else:
            path = Path(self.table).expanduser()
            if not path.is_file():
                raise UserError(
                    f"there is no table {path}: give the path of a csv file, or one of "
                    f"{', '.join(UCI)}"
                )
        table = _read(path, self.target)
        if table.shape[1] - 1 > self.columns:
            raise UserError(
                f"{path} has {table.shape[1] - 1} input columns, more than the {self.columns} that "
                "the model reads: drop some, or train with more"
            )
        return table

    def draw(
        self, rng: np.random.Generator, queries: int = 1
    ) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "q D"]]:
        """Context and queries as tokens (x, y), all scaled by the context."""
        table = self.rows()
        if len(table) <= self.examples:
            raise UserError(
                f"table {self.table} has {len(table)} rows, too few for {self.examples} examples "
                "and a query: set fewer examples"
            )
        some = table[rng.permutation(len(table))[: self.examples + queries]]
        seen = (np.arange(len(some)) < self.examples)[:, None]
        mean, deviation, varies = scales(some, seen, np)
        x, y = np.split((some - mean) / deviation, [-1], 1)
        x = np.where(varies[:, :-1], x, 0)
        tokens = np.concatenate([x, np.zeros((len(x), self.columns - x.shape[1])), y], 1)
        return tokens[: self.examples], tokens[self.examples :]

    def sample(self, rng, split):
        """One context and one query."""
        tokens = np.concatenate(self.draw(rng)).astype(np.float32)
        mask = (np.arange(self.length) == self.examples).astype(np.float32)
        return Batch(tokens, clock(self.length), tokens[:, -1:], mask, {})


@cache
def _read(path: Path, target: str | None) -> np.ndarray:
    """The numbers of a csv file, the target's column last."""
    csv = read_csv(path)
    last = csv.names[-1] if target is None else target
    inputs = [name for name in csv.names if name != last]
    if not inputs:
        raise UserError(
            f"{path} has one column: a table needs inputs and a target, separated by commas"
        )
    return csv.numbers([*inputs, last])


@dataclass(frozen=True)
class SyntheticTables(Prompts):
    """Prompts like those of real tables, of whose every property another one is drawn each time.

    Columns: how many there are, how much they share (three common factors), which are skewed,
    rounded or binary. Function: a linear one of some columns, a sum of steps and slopes along
    directions of few columns, a sum of products of two of these, mixed at random and sometimes
    skewed. Noise: from 3 % of the function's size to three times it. Scaled as tables are, by the
    examples before the point that is read, of which there are at least `least`.
    """

    d: int = 33
    """The most columns."""
    examples: int = 64
    """The most examples that come before a query."""
    least: int = 5
    """The fewest."""
    units: int = 16
    """Steps and slopes of a function (an even number)."""
    training: Annotated[Fresh | Finite, choice(lambda: (Fresh, Finite))] = field(
        default_factory=Fresh
    )
    """Which prompts are trained on: ever new ones, or a finite set."""

    trains_on: ClassVar[tuple[TrainOn, ...]] = ("any", "longest")  # scales are those of one prefix

    def __post_init__(self):
        super().__post_init__()
        if not 2 <= self.least <= self.examples or self.units < 2 or self.units % 2:
            raise ValueError(
                f"SyntheticTables needs least within 2 and examples = {self.examples} and an even "
                f"number of units, got {self.least} and {self.units}"
            )

    @property
    def power(self):
        """Of a function beside its noise, where the examples are many enough to tell its size."""
        return float((1 / (1 + _noise((np.arange(1000) + 0.5) / 1000) ** 2)).mean())

    def steps(self, split):
        """One prefix: the scales are those of its examples."""
        return "last"

    def standing(self, raw, split, xp):
        """Random in every split, from `least` on, unless the longest is asked for."""
        if self.layout.train_on == "longest":
            return super().standing(raw, split, xp)
        return self.least + xp.floor(raw["prefix"] * (self.examples + 1 - self.least))

    def draws(self, split):
        """What the columns and the noise are made of too."""
        T, d = self.examples + 1, self.d
        return super().draws(split) | {
            "columns": Raw("uniform"),
            "shared": Raw("uniform"),
            "factors": Raw("normal", (T, 3)),
            "loadings": Raw("normal", (3, d)),
            "kinds": Raw("uniform", (d,)),
            "mixed": Raw("uniform"),
            "cuts": Raw("normal", (d,)),
            "noise": Raw("normal", (T, 1)),
            "size": Raw("uniform"),
        }

    def function(self):
        """Weights, directions, thresholds, and how they are mixed."""
        d, H = self.d, self.units
        return {
            "w": Raw("normal", (d,)),
            "kept": Raw("uniform", (d,)),
            "density": Raw("uniform"),
            "directions": Raw("normal", (d, H)),
            "seen": Raw("uniform", (d, H)),
            "breadth": Raw("uniform"),
            "thresholds": Raw("normal", (H,)),
            "steepness": Raw("uniform", (H,)),
            "sizes": Raw("normal", (H,)),
            "products": Raw("normal", (H // 2,)),
            "parts": Raw("uniform", (3,)),
            "skew": Raw("uniform"),
        }

    def prompt(self, raw, split, xp=np):
        """Rows, function and noise, scaled by the examples before the point that is read."""
        seen = (xp.arange(self.examples + 1) < self.standing(raw, split, xp)[:, None])[..., None]
        x = self._columns(raw, xp)
        latent = self.latent(self._drawn(raw, split, xp), xp)
        clean = self.values(latent, x, xp)
        labels = clean + _noise(raw["size"])[:, None, None] * raw["noise"]
        mean, deviation, varies = scales(x, seen, xp)
        x = xp.where(varies, (x - mean) / deviation, 0)
        mean, deviation, _ = scales(labels, seen, xp)
        clean = xp.clip((clean - mean) / deviation, -FAR, FAR)
        return Prompt(x, clean, (labels - mean) / deviation, latent)

    def values(self, latent, x, xp):
        """Of variance 1 over the rows of a prompt."""
        present = (xp.abs(x).max(1, keepdims=True) > 0).sum(-1, keepdims=True)  # [N, 1, 1]
        present = xp.maximum(present, 1)
        kept = latent["kept"] < 0.1 + latent["density"][:, None]
        linear = x @ xp.where(kept, latent["w"], 0)[..., None]
        # Few of the columns that are there: from one of them on, to a half.
        few = (1 + latent["breadth"][:, None, None] * 0.3 * present) / present
        directions = xp.where(latent["seen"] < few, latent["directions"], 0)
        size = ((directions**2).sum(1, keepdims=True) + 1e-6) ** 0.5
        slopes = 10 ** (1.5 * latent["steepness"] - 0.5)
        unit = xp.tanh((x @ (directions / size) - latent["thresholds"][:, None]) * slopes[:, None])
        steps = unit @ latent["sizes"][..., None]
        pairs = unit[..., : self.units // 2] * unit[..., self.units // 2 :]
        pairs = pairs @ latent["products"][..., None]
        # Each part may be all there is, and each may be missing.
        parts = latent["parts"] ** 2 / (latent["parts"] ** 2).sum(1, keepdims=True)
        parts = xp.where(parts > 0.1, parts, 0)[:, None]
        mixed = sum(
            parts[..., i : i + 1] ** 0.5 * _unit(part)
            for i, part in enumerate((linear, steps, pairs))
        )
        mixed = _unit(mixed)
        skewed = xp.where(latent["skew"] < 0.3, 1, 0)[:, None, None]
        return xp.where(skewed, _unit(xp.exp(xp.minimum(mixed, 3))), mixed)

    def _columns(self, raw, xp) -> Any:
        """Inputs [N, T, d] of variance 1 over the rows of a prompt."""
        shared = raw["shared"][:, None, None] ** 2
        loadings = raw["loadings"] / ((raw["loadings"] ** 2).sum(1, keepdims=True)) ** 0.5
        x = (1 - shared) ** 0.5 * raw["x"] + shared**0.5 * (raw["factors"] @ loadings)
        kinds, cuts = raw["kinds"][:, None], raw["cuts"][:, None]
        # The share of columns that are plain differs from table to table.
        kinds = kinds * (0.5 + raw["mixed"][:, None, None])
        x = xp.where((kinds > 0.5) & (kinds <= 0.7), xp.exp(x), x)
        x = xp.where((kinds > 0.7) & (kinds <= 0.9), xp.floor(1.5 * x + cuts), x)
        x = xp.where(kinds > 0.9, (x > cuts) * 1.0, x)
        columns = 1 + xp.floor(raw["columns"] * self.d)
        there = xp.arange(self.d) < columns[:, None, None]
        return xp.where(there, _unit(x), 0).astype(np.float32)


def _noise(u: Any) -> Any:
    """Standard deviation of the noise, from a uniform number: evenly spread in its logarithm."""
    return 10 ** (2 * u - 1.5)


def _unit(x: Any) -> Any:
    """Mean 0 and variance 1 over the rows; 0 where they are all alike."""
    x = x - x.mean(1, keepdims=True)
    return x / ((x**2).mean(1, keepdims=True) + 1e-6) ** 0.5
