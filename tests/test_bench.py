"""The benchmark's measure of rounding; its command line is tested in test_cli."""

from pathlib import Path

import numpy as np
import pytest

from wsrnn import bench
from wsrnn.recipe import Recipe


@pytest.mark.parametrize("form", ["dense", "low_rank"])
def test_float32_gradients_round_at_most_twice_as_much_as_the_textbook(form):
    """At T = 400."""
    flags = ["--task.length", "400", "--model.root.width", "6", "--model.root.activation", "swish"]
    variant = None if form == "dense" else form
    file = Path(__file__).parents[1] / "experiments" / "speed.py"
    experiment = Recipe.read(file, variant, [*flags, "--batch-size", "2"]).experiment()
    rows = bench.errors(bench.modes(experiment))
    allowed = 2 * rows["textbook"].gradients
    assert all(row.gradients <= allowed for row in rows.values())
    allowed = max(2 * rows["textbook"].gradients, 1e-5)
    assert all(row.outputs <= allowed for row in rows.values())


def test_the_largest_error_is_of_the_worst_parameter_even_where_one_is_not_a_number():
    truth = {"a": np.array([4.0, -8.0]), "b": np.array([1.0]), "c": np.array([1e-15])}
    values = {"a": np.array([4.0, -7.0]), "b": np.array([1.25]), "c": np.array([1e-7])}
    assert bench.largest_error(values, truth) == ("b", 0.25)
    values["a"][1] = np.nan
    name, error = bench.largest_error(values, truth)
    assert name == "a" and np.isnan(error)
    assert bench.largest_error(np.zeros(3), np.zeros(3))[1] == 0
