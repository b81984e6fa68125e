"""Free-running completion of images, next to predictors that are not sequence models."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wsrnn import data
from wsrnn.evaluations import Evaluation, Result, in_batches
from wsrnn.figures import Figure, new_figure

RIDGE = 1e-3  # variance added to every known pixel, for those that are black in every image


@dataclass(frozen=True)
class Completion(Evaluation):
    """Give the first L pixels, let the model feed itself, score the pixels after L.

    Mean squared error on [0, 1] pixels, the completed part only; clipped to [0, 1] as an image
    would be.
    """

    contexts: tuple[int, ...] = (100, 300, 600)
    """L, one column each; the paper uses 100, 300 and 600 of 784."""
    images: int = 1000
    """Test images."""
    drawn: int = 8
    """Images in the figure, one figure for each L."""

    def __post_init__(self):
        if min(self.images, self.drawn) < 1 or not self.contexts:
            raise ValueError(
                "evaluation.images and drawn must be at least 1 and contexts not empty"
            )

    def check(self, task, model):
        """The task must predict its next input, and a context leave something to complete."""
        side = math.isqrt(task.length + 1)
        if task.d_in != 1 or task.d_out != 1 or side**2 != task.length + 1:
            raise ValueError("evaluation by completion is for grey square images, pixel by pixel")
        if not model.generates:
            raise ValueError(f"{type(model).__name__} cannot feed its predictions back")
        if not all(0 < known <= task.length for known in self.contexts):
            raise ValueError(
                f"evaluation.contexts {list(self.contexts)} must lie within 1 and {task.length}"
            )

    def __call__(self, model, task, seed):
        """Complete test images in scan mode."""
        batch = data.examples(task, "test", seed, self.images)
        truth = np.concatenate([batch.inputs[:, :1], batch.targets], 1)[..., 0]
        train = data.examples(task, "train", seed, 10_000)
        train = np.concatenate([train.inputs[:, :1], train.targets], 1)[..., 0]
        mean = train.mean(0)

        names = ("this model", "repeat last pixel", "mean image", "linear regression")
        rows = {name: [] for name in names}
        pictures = {}
        for known in self.contexts:
            context = batch.inputs[:, :known]
            outputs = in_batches(model, "generate", 250, context, batch.times)[..., 0]
            completed = truth.copy()
            completed[:, known:] = np.clip(outputs[:, known - 1 :], 0, 1)

            def error(predicted, known=known):
                return float(np.mean((predicted - truth)[:, known:] ** 2))

            rows["this model"].append(error(completed))
            rows["repeat last pixel"].append(error(truth[:, known - 1 : known]))
            rows["mean image"].append(error(mean))
            rows["linear regression"].append(error(_regression(train, truth, known)))
            some = slice(self.drawn)
            title = f"completion of the pixels after {known}: MSE {error(completed):.4f}"
            pictures[f"completion-{known}"] = draw_completions(
                truth[some], completed[some], truth[some], known, title
            )
        title = f"MSE of the pixels after the first L, {len(truth):,} test images, free-running"
        return Result(title, [f"L={known}" for known in self.contexts], rows, pictures)


def _regression(
    train: Float[np.ndarray, "M pixels"], truth: Float[np.ndarray, "N pixels"], known: int
) -> Float[np.ndarray, "N pixels"]:
    """The best linear map from the known pixels to all, by ridge on the training images."""
    mean = train.mean(0)
    x, y = (train - mean)[:, :known].astype(np.float64), train - mean
    weights = np.linalg.solve(x.T @ x + len(x) * RIDGE * np.eye(known), x.T @ y)
    return mean + (truth - mean)[:, :known] @ weights


def draw_completions(
    context: Float[np.ndarray, "N pixels"],
    completed: Float[np.ndarray, "N pixels"],
    truth: Float[np.ndarray, "N pixels"],
    known: int,
    title: str,
) -> Figure:
    """Images in three rows: the context, the completion and the truth."""
    count, side = len(truth), int(truth.shape[1] ** 0.5)
    figure = new_figure(1.1 * count + 1.0, 4.2)
    grid = figure.subplots(3, count, squeeze=False)
    given = np.where(np.arange(side**2) < known, context, np.nan)
    for row, (name, images) in enumerate(
        {f"first {known}": given, "completion": completed, "truth": truth}.items()
    ):
        for column, image in enumerate(images):
            axes = grid[row, column]
            axes.set_facecolor("#dfe7ef")
            axes.imshow(image.reshape(side, side), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        grid[row, 0].set_ylabel(name)
    figure.suptitle(title, fontsize=10)
    return figure
