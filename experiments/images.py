"""Images completed pixel by pixel, L = 100, 300 and 600 of 784 known (the paper's section 3.2).

Claim: a WARP reads the known pixels once, and its state, the weights of a small network from places
to values, is the completed image. A = I adds up what each pixel writes, B E_t (x_t, 1), a linear
map of rank 256; after the context nothing is written, and one network is evaluated at all later
pixels: matrix products alone, where other forms of A have another network at every pixel. L is
drawn anew for each training image, or is one number, as in the paper: `after_300`.

MNIST, MSE on [0, 1], all 10,000 test images; `after_L` three seeds, equal within 0.0002:
                                         L=100   L=300   L=600
    one model for each L                0.0738  0.0414  0.0083    (1,500, 5,000, 2,000 steps)
    this model, any L                   0.0741  0.0465  0.0122    (12,000 steps, 52 ms each)
    published WARP                      0.071   0.042   0.014     (second-hand; best of three)
    linear regression                   0.0740  0.0536  0.0164    (all training images, clipped)
    an MLP of 768 x 768 for each L      0.0731  0.0411  0.0080    (4,000 steps of 128, 75 s)
    mean image                          0.0769  0.0758  0.0396
At L = 100 hardly any digit has begun: the MLP of that L alone, whose errors in training (0.0730)
and test agree, shows how little can be known: 0.071 is below it. A rate of 1e-3 diverges.
Peers, one seed, on one shared core, everything counted: L = 300, where WARP takes 644 to 732 s:
S5 0.0678 after 908 (1,150 steps), LSTM 0.0779 after 751, GRU 0.1001 after 509, flat. L = 100 and
600, WARP 155 to 207 s: S5 0.0851 and 0.0310, LSTM 0.1021 and 0.0449, GRU 0.1026 and 0.0517 after
340 to 870. Fashion (`fashion --task.context L`), one seed, and linear regression: 0.0525 (0.0586),
0.0336 (0.0425), 0.0218 (0.0261) after 1,500, 3,000, 1,500 steps.
Not as published: the published WARP (`published`) has a dense A, is fed with its own predictions in
training and after L, and scores every pixel against itself. `dense` is its A without feedback.
`bits` predicts a scale too, for bits per dimension; it and `cifar` have had 1,500 and 800 steps
(experiments/README.md), the others, `celeba`, `classify` and `pathfinder` none.

Command: wsrnn train experiments/images.py --variant after_300 --data-dir DATA    (peers: gru, ...)
"""

from dataclasses import replace

from wsrnn.evaluations import LossOnly
from wsrnn.evaluations.completion import Completion
from wsrnn.experiment import Experiment
from wsrnn.models.head import Head, Scale
from wsrnn.models.peers.rnn import RnnConfig
from wsrnn.models.peers.ssm import SsmConfig
from wsrnn.models.warp import FromFirst, Matrix, Positions, Query, Raster, Tanh, WarpConfig, Waves
from wsrnn.optim import AdaBelief, Constant, Cosine, OptimConfig
from wsrnn.recurrence import Dense, Identity
from wsrnn.root import Mlp
from wsrnn.tasks.continuation import Recursive
from wsrnn.tasks.images import ImageClasses, ImageCompletion

experiment = Experiment(
    task=ImageCompletion(context=(50, 700)),
    model=WarpConfig(
        root=Mlp(width=40, depth=3, start="he"),
        transition=Identity(),
        positions=Positions(size=256),
        write=Matrix(scale=0.1),
        query=Query(time=False, waves=Raster(side=28, modes=14)),
        drive="value",
    ),
    evaluation=Completion((100, 300, 600)),
    optim=OptimConfig(learning_rate=3e-4, schedule=Cosine(warmup=200)),
    steps=12_000,
    batch_size=64,
    eval_every=1000,
    eval_batches=32,
    save_every=1000,
)


def on(images: str, side: int, contexts: tuple[int, ...], colour: bool = False) -> Experiment:
    """The same on another set; the paper's contexts."""
    task = ImageCompletion(
        context=(side**2 // 16, side**2 * 7 // 8), images=images, side=side, colour=colour
    )
    query = Query(time=False, waves=Raster(side=side, modes=side // 2))
    model = replace(experiment.model, query=query)
    return replace(experiment, task=task, model=model, evaluation=Completion(contexts))


dense = replace(
    experiment.model,
    root=Mlp(width=24, depth=3, start="he"),
    transition=Dense(start="orthogonal", radius=0.998),
    positions=None,
    query=Query(waves=Waves(count=32)),
    mode="conv",
)
published = replace(
    experiment,
    task=ImageCompletion(Recursive(forcing=0.15), (300,), loss="nll"),
    model=WarpConfig(root=Mlp(width=24, depth=3), head=Head(Tanh(), scale=Scale(floor=0.5))),
    optim=OptimConfig(AdaBelief(), Constant(), learning_rate=1e-4, clip_norm=None, clip_value=1e-7),
    steps=86_000,
    batch_size=128,
)
peers = {
    "gru": RnnConfig(width=128),
    "lstm": RnnConfig(cell="lstm", width=128),
    "s5": SsmConfig(width=64, states=64, layers=2),
}
# One WARP for each L, as in the paper.
after = {
    f"after_{L}": replace(
        experiment,
        task=ImageCompletion(context=(L,)),
        evaluation=Completion((L,)),
        steps=steps,
        eval_every=500,
    )
    for L, steps in ((100, 1500), (300, 5000), (600, 2000))
}
variants = (
    after
    | {
        "fashion": on("fashion_mnist", 28, (100, 300, 600)),
        "cifar": on("cifar10_jpeg", 32, (100, 300, 600), colour=True),
        "celeba": on("celeba", 32, (100, 300, 600), colour=True),
        "celeba64": on("celeba", 64, (400, 1200, 2400), colour=True),
        "bits": replace(
            experiment,
            task=replace(experiment.task, loss="nll"),
            model=replace(experiment.model, head=Head(scale=Scale(floor=0.02))),
        ),
        "dense": replace(
            experiment, model=dense, optim=replace(experiment.optim, learning_rate=1e-4)
        ),
        "small": replace(on("mnist", 14, (25, 75, 150)), steps=3000),
        "classify": replace(
            experiment,
            task=ImageClasses(),
            model=replace(dense, root=Mlp(width=24, depth=2, start="he"), query=Query()),
            evaluation=LossOnly(),
            optim=OptimConfig(learning_rate=1e-3, schedule=Cosine(warmup=50)),
            steps=3000,
        ),
        "pathfinder": replace(
            experiment,
            task=ImageClasses("pathfinder", side=32, classes=2),
            model=replace(dense, query=Query(), start=FromFirst(depth=1, width=32)),
            evaluation=LossOnly(),
        ),
        "published": published,
    }
    | {name: replace(experiment, model=model) for name, model in peers.items()}
)
