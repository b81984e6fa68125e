"""What a trained model learns in context: one study of a run, on one set of fresh prompts.

Error against the number of examples, beside the algorithms; prompts from other laws than those of
training; prompts that were tampered with; the weights that the predictions imply; what can be read
from the states; and the plateaus of training. The protocol is that of Garg et al. (2022): at least
1,280 prompts and 90 % bootstrap intervals from 1,000 resamples.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from wsrnn import data, estimators, figures, plateaus
from wsrnn.errors import UserError
from wsrnn.evaluations import in_batches
from wsrnn.evaluations.in_context import inliers
from wsrnn.models import Model
from wsrnn.monitor import Monitor
from wsrnn.record import read_metrics
from wsrnn.report import save, slug, write_json
from wsrnn.run import load_step, open_checkpoints
from wsrnn.tasks import Batch
from wsrnn.tasks.prompts import Curriculum, Prompts
from wsrnn.tasks.regression import GaussianProcess, LinearRegression
from wsrnn.tasks.shifts import SHIFTS

RESAMPLES = 1000
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4)  # of the lasso
GROUPS = 2000  # the most that are resampled: more prompts than this are resampled in groups
LARGEST = 2**28  # bytes of the states that a probe looks at


def study(
    run: Path | str, step: str | int = "best", flags: tuple[str, ...] = (), prompts: int = 1280
) -> dict[str, Any]:
    """Study a run; write and return icl/icl.json and figures, also for TensorBoard.

    `text` of the returned document is the summary for a terminal. Where the layout is joint_masked
    a prompt is read at its end only, else after every prefix in one pass. Raises UserError for a
    run that is not on prompts.
    """
    run = Path(run)
    model, experiment, number = load_step(run, step, flags)
    task, seed = experiment.task, experiment.seed
    if not isinstance(task, Prompts):
        raise UserError(
            f"{run}: a study needs prompts (wsrnn.tasks.prompts), and the task is "
            f"{type(task).__name__}: use wsrnn eval"
        )
    if task.cumsum == "legacy":
        raise UserError(
            f"{run}: under cumsum legacy y_q is asked for with Y_(N-1) added to it: use wsrnn eval"
        )
    if task.layout != "joint_masked" and task.reads("test") == "one":
        raise UserError(
            f"{run}: a study reads prompts after every prefix, and {type(task).__name__} has one "
            "to read in each: use wsrnn eval"
        )
    if prompts < 100:
        raise UserError(f"--prompts must be at least 100 for intervals to mean anything: {prompts}")
    task = replace(task, curriculum=Curriculum())
    batch = data.examples(task, "test", seed, prompts)
    curves = error_curves(model, task, batch)
    document = {
        "run": str(run),
        "step": number,
        "prompts": prompts,
        "task": type(task).__name__,
        "errors": curves,
        "aggregates": aggregates(task, curves),
        "shifts": shifted(model, task, seed, prompts),
        "interventions": interventions(model, task, batch),
        "implied weights": implied_weights(model, task, batch),
    }
    title = f"{run.name}, step {number}: error after n examples, {prompts:,} prompts"
    pictures = {
        "errors": figures.error_curves(
            task.prefixes, {k: v["error"] for k, v in curves.items()}, title, task.d,
            (curves["this model"]["low"], curves["this model"]["high"]),
        ),
        "shifts": figures.intervals(
            {name: [row["error"], row["low"], row["high"]] for name, row in
             (document["shifts"] | document["interventions"]).items()},
            {name: row["ridge"] for name, row in document["shifts"].items() if "ridge" in row},
            f"{run.name}: error after {task.examples} examples",
        ),
    }  # fmt: skip
    if (found := states(model, task, batch)) is not None:
        document["states"] = found.pop("document")
        pictures["states"] = figures.states(**found, title=run.name)
    if (found := emergence(run, task, batch)) is not None:
        document["emergence"] = found.pop("document")
        pictures["emergence"] = figures.emergence(**found, title=run.name)
    folder = run / "icl" / slug(number, flags)
    paths = save(pictures, folder)
    write_json(folder / "icl.json", document)
    last = max((row["step"] for row in read_metrics(run)), default=0) + 1
    monitor = Monitor(run, last)
    for name, path in paths.items():
        monitor.image(last, f"icl/{name}", path)
    monitor.close()
    return document | {"text": _text(document, task) + f"\nwrote {folder}"}


def answers(model: Model, task: Prompts, batch: Batch) -> Float[np.ndarray, "N prefixes"]:
    """The model's prediction of y after each of the task's prefixes."""
    outputs = in_batches(model, "__call__", 256, batch.inputs, batch.times)
    return outputs[:, task.queries, 0].astype(np.float64)


def error(
    predicted: Float[np.ndarray, "N prefixes"], truth: Float[np.ndarray, "N prefixes"]
) -> dict[str, list[float]]:
    """MSE over the mean square of the truth, with a 90 % bootstrap interval over prompts."""
    N = min(len(truth), GROUPS)
    squares, size = (
        np.add.reduceat(each, np.arange(N) * len(truth) // N)
        for each in ((predicted - truth) ** 2, truth**2)
    )
    counts = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N), RESAMPLES)
    resampled = (counts @ squares) / (counts @ size)
    low, high = np.percentile(resampled, [5, 95], 0)
    mean = squares.mean(0) / size.mean(0)
    return {"error": mean.tolist(), "low": low.tolist(), "high": high.tolist()}


def algorithms(task: Prompts) -> dict[str, Any]:
    """What the model is drawn beside."""
    table = estimators.baselines(task.noise) | {
        "averaging": estimators.averaging,
        "3 nearest": estimators.nearest_neighbours,
        "normalised LMS": estimators.normalised_lms,
    }
    if isinstance(task, LinearRegression):
        descent = estimators.gradient_descent
        table |= {f"{k} gradient steps": partial(descent, steps=k) for k in (4, 16)}
        half = max(1, task.d // 2)
        table |= {
            "recursive least squares (0.95)": partial(
                estimators.recursive_least_squares, penalty=task.noise or 0.1, forgetting=0.95
            ),
            f"{half} principal components": partial(
                estimators.principal_components, components=half
            ),
        }
    if isinstance(task, GaussianProcess):
        table["Gaussian process"] = partial(
            estimators.gaussian_process, scale=task.scale, noise=task.noise + task.nugget
        )
    if type(task) is LinearRegression and task.pool:
        table["posterior over the pool"] = partial(
            estimators.pool_posterior, pool=task.members()["w"], noise=task.noise or 1e-3
        )
    if getattr(task, "sparse", None):
        table |= {f"lasso ({p:g})": partial(estimators.lasso, penalty=p) for p in PENALTIES}
    return table


def error_curves(model: Model, task: Prompts, batch: Batch) -> dict[str, dict[str, list[float]]]:
    """The error after every prefix, of the model and of the algorithms on the same prompts.

    Of the lasso with the penalty that is best on average.
    """
    x, y, truth = _parts(task, batch)
    asked = batch.mask[:, task.queries]  # what is not, as an outlier, counts as 0 of 0
    curves = {"this model": error(asked * answers(model, task, batch), asked * truth)}

    def add(name, estimate, x):
        predicted = [estimate(x[:, :n], y[:, :n], x[:, n]) for n in task.prefixes]
        curves[name] = error(asked * np.stack(predicted, 1), asked * truth)

    for name, estimate in algorithms(task).items():
        add(name, estimate, x)
    if "outlier" in batch.latents:
        add("least squares on the inliers", estimators.least_squares, inliers(task, batch))
    lassos = sorted(
        (name for name in curves if name.startswith("lasso")),
        key=lambda name: np.mean(curves[name]["error"]),
    )
    return {name: curve for name, curve in curves.items() if name not in lassos[1:]}


def aggregates(task: Prompts, curves: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Of each curve: the error at d and at 2 d examples and its mean, also over that of ridge.

    Ridge with the noise as its penalty is the best prediction for white x and normal w.
    """
    at = {f"error at {n}": task.prefixes.index(n) for n in (task.d, 2 * task.d)
          if n in task.prefixes}  # fmt: skip
    best = next(np.array(c["error"]) for name, c in curves.items() if name.startswith("ridge"))
    rows = {}
    for name, curve in curves.items():
        values = np.array(curve["error"])
        rows[name] = {key: float(values[n]) for key, n in at.items()}
        rows[name]["mean over n"] = float(values.mean())
        rows[name]["largest ratio to ridge"] = float((values / best).max())
    return rows


def shifted(model: Model, task: Prompts, seed: int, prompts: int) -> dict[str, dict[str, float]]:
    """The error after the longest prompt under each of `tasks.shifts`, beside ridge."""
    rows = {}
    for name, shift in SHIFTS.items():
        other = replace(task, shift=name)
        batch = data.examples(other, "test", seed, prompts)
        x, y, truth = _parts(other, batch)
        row = _last(error(answers(model, other, batch)[:, -1:], truth[:, -1:]))
        if isinstance(task, LinearRegression):
            penalty = task.noise + shift.noise or 0.1
            ridge = estimators.ridge(x[:, :-1], y[:, :-1], x[:, -1], penalty)
            row["ridge"] = _last(error(ridge[:, None], truth[:, -1:]))["error"]
        rows[name] = row
    return rows


def interventions(model: Model, task: Prompts, batch: Batch) -> dict[str, dict[str, float]]:
    """The error after the longest prompt, tampered with: what the model makes use of.

    A model that uses all examples fails when all but the first belong to another function (swap)
    and without labels; one that adds up does not care for their order.
    """
    n = task.examples
    points, labels = task.shown(batch.inputs)
    pairs = np.concatenate([points, labels[..., None]], -1)
    tokens, query = pairs[:, :n], pairs[:, n:]
    without = np.delete(np.arange(n), n // 2)
    changed = {
        "as they are": tokens,
        "others of another prompt": np.concatenate(
            [tokens[:, :1], np.roll(tokens, 1, 0)[:, 1:]], 1
        ),
        "one left out": tokens[:, without],
        "one doubled": np.concatenate([tokens[:, :1], tokens], 1)[:, :n],
        "in reverse order": tokens[:, ::-1],
        "labels zero": np.concatenate([tokens[..., :-1], 0 * tokens[..., -1:]], -1),
        "query alone": tokens[:, :0],
    }
    truth = _parts(task, batch)[2][:, -1:]
    rows = {}
    for name, examples in changed.items():
        pairs = np.concatenate([examples, query], 1)
        inputs = task.tokens(pairs[..., :-1], pairs[..., -1:])
        times = batch.times[:, : inputs.shape[1]]
        predicted = answers(model, task, batch._replace(inputs=inputs, times=times))[:, -1:]
        rows[name] = _last(error(predicted, truth))
    return rows


def implied_weights(model: Model, task: Prompts, batch: Batch) -> dict[str, dict[str, float]]:
    """Cosines of the prediction's gradient to the query with w, and with what is seen of w.

    Seen of w is its projection onto the span of the examples (Garg et al. 2022, figure 3). Empty
    for functions that are not w.x.
    """
    if type(task) is not LinearRegression:
        return {}
    graphdef, params = nnx.split(model)

    @jax.jit
    def gradient(params, inputs, times):
        def last(query):
            tokens = inputs.at[:, -1, :-1].set(query)
            at = np.full(len(tokens), tokens.shape[1] - 1)
            return nnx.merge(graphdef, params)(tokens, times, steps=at).sum()

        return jax.grad(last)(inputs[:, -1, :-1])

    rows = {}
    points, w = _parts(task, batch)[0], batch.latents["w"]
    for n in sorted({max(1, task.d // 2), task.d, task.examples} & {*task.prefixes}):
        step = range(task.length)[task.queries][task.prefixes.index(n)]
        inputs = jax.numpy.asarray(batch.inputs[:, : step + 1])
        implied = np.asarray(gradient(params, inputs, batch.times[:, : step + 1]), np.float64)
        x = points[:, :n]
        seen = np.einsum("nde,ne->nd", np.linalg.pinv(x) @ x, w)
        rows[f"n = {n}"] = {"with w": _cosine(implied, w), "with w seen": _cosine(implied, seen)}
    return rows


def states(model: Model, task: Prompts, batch: Batch) -> dict[str, Any] | None:
    """What the states hold: linear probes, principal components, drift, and the spectrum of A.

    None for a model that does not show its states. Probes are of the states from which a prompt is
    read; where that is its end alone, components and drift are of the states of all tokens.
    """
    shapes = jax.eval_shape(partial(type(model).states, model), batch.inputs[:1], batch.times[:1])
    if shapes is None:
        return None
    count = int(min(len(batch.inputs), LARGEST // (4 * shapes.size)))
    theta = in_batches(model, "states", 64, batch.inputs[:count], batch.times[:count])
    read = theta[:, task.queries]
    theta = read if len(task.prefixes) > 1 else theta
    x, y, _ = _parts(task, batch)
    x, y = x[:count], y[:count]
    at = sorted({1, max(1, task.d // 2), task.d, 2 * task.d, task.examples} & {*task.prefixes})
    upper = np.triu_indices(task.d)
    targets = {
        "sum of y x": lambda n: np.einsum("nid,ni->nd", x[:, :n], y[:, :n]),
        "sum of x x^T": lambda n: np.einsum("nid,nie->nde", x[:, :n], x[:, :n])[:, *upper],
    }
    if "w" in batch.latents:
        targets["w"] = lambda n: np.asarray(batch.latents["w"])[:count].reshape(count, -1)
    probes = {
        name: [probe(read[:, task.prefixes.index(n)].astype(np.float64), of(n)) for n in at]
        for name, of in targets.items()
    }
    flat = theta[:, 1:].reshape(-1, theta.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    _, axes = np.linalg.eigh(flat.T @ flat) if flat.shape[1] <= 2048 else (0, np.eye(len(flat[0])))
    components = (flat @ axes[:, :-3:-1]).reshape(count, -1, 2)
    drift = np.linalg.norm(np.diff(theta, axis=1), axis=-1).mean(0)
    eigenvalues = model.eigenvalues()
    return {
        "document": {"n": at, "probes": probes, "drift": drift.tolist()},
        "at": at,
        "probes": probes,
        "components": components,
        "drift": drift,
        "eigenvalues": eigenvalues,
    }


def emergence(run: Path, task: Prompts, batch: Batch) -> dict[str, Any] | None:
    """The plateaus of the training loss, and the error of a checkpoint from the middle of each.

    The loss is divided by Var(y), so that a level is an error. For linear attention on prompts of
    one length theory predicts the levels. None for a run without a record of its steps.
    """
    rows = [row for row in read_metrics(run) if row.get("loss") is not None]
    if len(rows) < 2:
        return None
    steps = np.array([row["step"] for row in rows])
    losses = np.array([row["loss"] for row in rows]) / task.power
    found = plateaus.find(steps, losses)
    normal = type(task) is LinearRegression and not (task.uniform or task.sparse)
    predicted = []
    if normal and task.layout == "joint_masked":
        predicted = plateaus.saddles(task.eigenvalues, task.examples, task.noise).tolist()
    with open_checkpoints(run) as saved:
        kept = np.array(saved.steps())
    truth, stays = _parts(task, batch)[2], []
    for plateau in found:
        row = plateau._asdict()
        inside = kept[(kept >= plateau.first) & (kept <= plateau.last)]
        if len(inside):
            row["step"] = int(inside[len(inside) // 2])
            model, *_ = load_step(run, row["step"])
            row |= _last(error(answers(model, task, batch)[:, -1:], truth[:, -1:]))
        stays.append(row)
    return {
        "document": {"plateaus": stays, "predicted": predicted},
        "steps": steps,
        "losses": losses,
        "plateaus": found,
        "predicted": predicted,
    }


def probe(features: Float[np.ndarray, "N P"], targets: Float[np.ndarray, "N K"]) -> float:
    """R^2 of the best linear map from features to targets, on a quarter of the rows.

    Fitted with a penalty on half of them, which is chosen on another quarter.
    """
    N = len(features)
    parts = np.split(np.arange(N), [N // 2, 3 * N // 4])
    mean, scale = features[parts[0]].mean(0), features[parts[0]].std(0) + 1e-9
    fit, choose, judge = ((features[part] - mean) / scale for part in parts)
    U, s, Vt = np.linalg.svd(fit, full_matrices=False)
    centre = targets[parts[0]].mean(0)
    projected = U.T @ (targets[parts[0]] - centre)

    def score(penalty, rows, part):
        w = Vt.T @ ((s / (s**2 + penalty))[:, None] * projected)
        residual = targets[part] - centre - rows @ w
        return 1 - (residual**2).sum() / ((targets[part] - centre) ** 2).sum()

    penalties = len(fit) * 10.0 ** np.arange(-5, 4)
    best = max(penalties, key=lambda p: score(p, choose, parts[1]))
    return float(score(best, judge, parts[2]))


def _parts(task: Prompts, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x [N, n + 1, d], labels [N, n + 1] and what is true after each prefix, in float64."""
    x, y = task.shown(np.asarray(batch.inputs, np.float64))
    return x, y, np.asarray(batch.targets[:, task.queries, 0], np.float64)


def _last(curve: dict[str, list[float]]) -> dict[str, float]:
    return {name: values[-1] for name, values in curve.items()}


def _cosine(a: Float[np.ndarray, "N d"], b: Float[np.ndarray, "N d"]) -> float:
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(1) / np.maximum(sizes, 1e-12)))


def _text(document: dict[str, Any], task: Prompts) -> str:
    at = sorted({0, 1, task.d, 2 * task.d, task.examples} & {*task.prefixes})
    lines = [
        f"{document['run']}, step {document['step']}: MSE on y_q / Var(y_q), 90 % intervals over "
        f"{document['prompts']:,} prompts",
        " " * 30 + "".join(f"{f'n={n}':>10}" for n in at),
    ]
    for name, curve in document["errors"].items():
        lines.append(
            f"{name:30}" + "".join(f"{curve['error'][task.prefixes.index(n)]:10.4g}" for n in at)
        )
    for title in ("shifts", "interventions"):
        lines.append(f"\n{title}, after {task.examples} examples")
        for name, row in document[title].items():
            beside = f"   ridge {row['ridge']:.4g}" if "ridge" in row else ""
            lines.append(
                f"{name:40}{row['error']:10.4g}  [{row['low']:.4g}, {row['high']:.4g}]{beside}"
            )
    for name, row in document["implied weights"].items():
        lines.append(
            f"\nimplied weights at {name}: cosine {row['with w']:.3f} with w, "
            f"{row['with w seen']:.3f} with what the examples span of it"
        )
    if "states" in document:
        for name, values in document["states"]["probes"].items():
            scores = "  ".join(
                f"n={n} {value:.3f}"
                for n, value in zip(document["states"]["n"], values, strict=True)
            )
            lines.append(f"linear probe of {name} from the state, R^2: {scores}")
    if "emergence" in document:
        lines += _plateaus(document["emergence"], document["prompts"])
    return "\n".join(lines)


def _plateaus(emergence: dict[str, Any], prompts: int) -> list[str]:
    found = "" if emergence["plateaus"] else ": none"
    lines = [f"\nplateaus of the training loss over Var(y){found}"]
    for row in emergence["plateaus"]:
        line = f"steps {row['first']:,} to {row['last']:,}: {row['level']:.4g}"
        if emergence["predicted"]:
            nearest = min(emergence["predicted"], key=lambda level: abs(level - row["level"]))
            line += f", predicted {nearest:.4g}"
        if "error" in row:
            line += (
                f"; step {row['step']:,} on {prompts:,} fresh prompts: "
                f"{row['error']:.4g}  [{row['low']:.4g}, {row['high']:.4g}]"
            )
        lines.append(line)
    return lines
