"""wsrnn as a library: a model in your own training loop, with no command line and no run folder.

    python experiments/from_python.py

A WARP sees noisy samples of a wave, one at a time. Its hidden state theta_t is the weights of a
network that maps any time tau in [0, 1] to the wave's value there, so that a loss at random tau
teaches it to turn 32 samples into a function. The script

1. builds the model from its parts,
2. trains it with an optax loop of its own,
3. streams a sequence through the jitted `advance`, in constant memory,
4. reads theta and evaluates the network at new tau,
5. trains several seeds at once by vmap,
6. saves and loads the parameters,
7. measures what an own loss should call.

On 7. Take the gradient through `model.total(score, inputs, times, labels)`, as `wsrnn train` does.
It returns score(outputs, *labels), a sum over sequences, and takes the gradient a few sequences at
a time while their states are in memory. The gradient of a loss on `model(inputs, times)` computes
all states a second time, because they are too many to keep (N T P floats): 2.5 times as long at
N = 32, T = 256 and P = 593 (340 and 864 ms on two busy CPU cores).
For the score both compute the same; in mode scan, which keeps the states, they cost the same.
"""

import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import nnx

from wsrnn import Dense, Matrix, Mlp, Rotation, WarpConfig

STEPS, LENGTH, RATE = 400, 32, 5e-3

# 1. The model. Every part is a dataclass with its own options; an own part is an own class, see
# experiments/own_parts.py.
config = WarpConfig(
    root=Mlp(width=16, depth=2, activation="tanh"),
    transition=Rotation(),  # pairs of weights hold Fourier coefficients of the sequence
    write=Matrix(scale=0.3),
    drive="value",
    mode="conv",
)
optimiser = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(RATE, STEPS))
)


def build(seed):
    """A fresh model for inputs of 1 channel and 1 output."""
    return config.build(1, 1, rngs=nnx.Rngs(seed))


def draw(key, count=64):
    """Samples x_t [N, T, 1] of waves, random tau [N, T] and the waves' values there [N, T, 1]."""
    keys = jax.random.split(key, 4)
    phase = jax.random.uniform(keys[0], (count, 1), maxval=2 * jnp.pi)
    frequency = jax.random.uniform(keys[1], (count, 1), minval=3.0, maxval=9.0)
    seen = jnp.linspace(0, 1, LENGTH)[None]
    tau = jax.random.uniform(keys[2], (count, LENGTH))
    x = jnp.sin(frequency * seen + phase) + 0.1 * jax.random.normal(keys[3], (count, LENGTH))
    return x[..., None], tau, jnp.sin(frequency * tau + phase)[..., None]


# 2. The training loop. `graph` is the model's structure and `params` a pytree of arrays.
graph = nnx.graphdef(nnx.eval_shape(lambda: build(0)))


def score(outputs, targets):
    """The sum of squared errors, and a tree of more sums (here none)."""
    return jnp.sum((outputs - targets) ** 2), ()


def loss(params, inputs, times, targets):
    """The mean squared error, the quick way."""
    total, _ = nnx.merge(graph, params).total(score, inputs, times, (targets,))
    return total / targets.size


def step(params, state, batch):
    """One update."""
    value, gradient = jax.value_and_grad(loss)(params, *batch)
    updates, state = optimiser.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value


def train(step, params, state):
    """Parameters and the last loss after all steps."""
    draw_next = jax.jit(draw)
    for key in jax.random.split(jax.random.key(0), STEPS):
        params, state, value = step(params, state, draw_next(key))
    return params, value


def milliseconds(functions, *arguments, repeats=7):
    """The median time of each function, called in turns after they are compiled."""
    times = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * sorted(each[1:])[repeats // 2] for name, each in times.items()}


def main():
    """Run all of it, and print one line for each part."""
    params = nnx.as_pure(nnx.state(build(0)))
    params, value = train(jax.jit(step), params, optimiser.init(params))
    print(f"trained: mean squared error {value:.4f} over all steps (variance 0.5, noise 0.01)")
    model = nnx.merge(graph, params)
    inputs, times, targets = draw(jax.random.key(1), count=4)
    outputs = model(inputs, times)

    # 3. Streaming: a State of constant size, and one output for each input.
    advance = jax.jit(lambda params, *step: nnx.merge(graph, params).advance(*step))
    state, streamed = model.start(inputs[:, 0]), []
    for t in range(LENGTH):
        state, y = advance(params, state, inputs[:, t], times[:, t])
        streamed.append(y)
    difference = jnp.abs(jnp.stack(streamed, 1) - outputs).max()
    print(f"streamed: the outputs of the full call to {difference:.0e}")

    # 4. The hidden state is a network: [N, T, P], then N networks at any time.
    theta = model.states(inputs, times)[:, -1]
    error = jnp.mean((model.query(theta, times[:, -1]) - targets[:, -1]) ** 2)
    curve = jax.vmap(model.query, (None, 0), 1)(theta, jnp.linspace(0, 1, 5))
    print(f"theta {theta.shape}: error {error:.4f} at new tau; the first network at 0, 1/4, ... 1:")
    print("   ", *(f"{y:.2f}" for y in curve[0, :, 0]))

    # 5. Seeds: parameters and optimiser states with a leading axis, the same batches.
    many = jax.vmap(lambda key: nnx.as_pure(nnx.state(build(key))))
    stacked = many(jax.random.split(jax.random.key(2), 3))
    together = jax.jit(jax.vmap(step, in_axes=(0, 0, None)))
    _, values = train(together, stacked, jax.vmap(optimiser.init)(stacked))
    print("three seeds at once:", *(f"{value:.4f}" for value in values))

    # 6. Parameters are a pytree: any checkpoint library will do. (`wsrnn.fit(experiment, folder)`
    # and `wsrnn.load(folder)` keep the configuration and the optimiser's state too.)
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpoints:
        checkpoints.save(Path(folder) / "params", params)
        checkpoints.wait_until_finished()
        loaded = checkpoints.restore(Path(folder) / "params", params)
    same = jnp.array_equal(nnx.merge(graph, loaded)(inputs, times), outputs)
    print(f"saved and loaded: the same outputs: {same}")

    # 7. What an own loss should call.
    large = WarpConfig(root=Mlp(width=16), transition=Dense(), write=Matrix(0.1), mode="conv")
    shape, large_params = nnx.split(large.build(1, 1, rngs=nnx.Rngs(0)))

    def folded(params, inputs, times, targets):
        return nnx.merge(shape, params).total(score, inputs, times, (targets,))[0]

    def plain(params, inputs, times, targets):
        return score(nnx.merge(shape, params)(inputs, times), targets)[0]

    x = jax.random.normal(jax.random.key(3), (32, 256, 1))
    losses = {"total": folded, "call": plain}
    taken = milliseconds(
        {name: jax.jit(jax.value_and_grad(f)) for name, f in losses.items()},
        large_params, x, jnp.broadcast_to(jnp.linspace(0, 1, 256), (32, 256)), x,
    )  # fmt: skip
    print(
        f"value and gradient at N = 32, T = 256, P = {nnx.merge(shape, large_params).network.size}:"
        f" model.total {taken['total']:.0f} ms, model(inputs, times) {taken['call']:.0f} ms, "
        f"ratio {taken['call'] / taken['total']:.2f}"
    )


if __name__ == "__main__":
    main()
