"""Classification: .ts files and their tasks, LinOSS, stacks in blocks, several tau, accuracy."""

import gzip
import lzma
import pickle
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import FORM_NAMES, OWN, close, transition
from scipy.linalg import expm
from test_tasks import SHARED

from wsrnn import data
from wsrnn.errors import UserError
from wsrnn.evaluations.labels import Accuracy
from wsrnn.experiment import Experiment
from wsrnn.metrics import last_valid
from wsrnn.models import Model
from wsrnn.models.peers.oscillator import OscillatorConfig, oscillate
from wsrnn.models.warp import Matrix, MlpLift, Positions, Query, WarpConfig
from wsrnn.models.warp.stack import StackConfig
from wsrnn.recipe import Recipe
from wsrnn.recurrence import InitialState, Projection, Recurrence, Rotation, linear_scan
from wsrnn.root import Linear, Mlp
from wsrnn.tasks import SPLITS
from wsrnn.tasks.archive import Archive
from wsrnn.tasks.check import check_examples
from wsrnn.tasks.classes import NewClasses
from wsrnn.tasks.early import EarlySignal
from wsrnn.tasks.layouts import JointMasked
from wsrnn.tasks.regression import LinearRegression
from wsrnn.tasks.words import CLIPS, FOLDER, SpokenWords
from wsrnn.trials import trials
from wsrnn.ts_files import read_ts

# Files and tasks


def ts(cases, classes="a b", dimensions=2):
    """The text of a .ts file: cases of channels of numbers or words, and a class."""
    head = f"# a comment\n@problemName Mine\n@timeStamps false\n@dimensions {dimensions}\n"
    lines = [
        ":".join([*(",".join(map(str, channel)) for channel in series), label])
        for series, label in cases
    ]
    return head + f"@classLabel true {classes}\n@data\n" + "\n".join(lines) + "\n"


def drawn(count, seed, longest=6):
    """Cases of two channels and 3 to `longest` steps, of classes a and b in turns."""
    rng = np.random.default_rng(seed)
    lengths = [3 + i % (longest - 2) for i in range(count)]
    return [
        (np.round(rng.normal(size=(2, length)) * [[5], [0.1]] + 3, 3).tolist(), "ab"[i % 2])
        for i, length in enumerate(lengths)
    ]


@pytest.fixture
def problem(tmp_path):
    """Write the problem Mine with these cases, and return the task."""

    def write(train=None, test=None, **options):
        folder = tmp_path / "uea" / "Mine"
        folder.mkdir(parents=True, exist_ok=True)
        train = ts(drawn(20, 0)) if train is None else train
        test = ts(drawn(10, 1)) if test is None else test
        (folder / "Mine_TRAIN.ts").write_text(train)
        (folder / "Mine_TEST.ts.gz").write_bytes(gzip.compress(test.encode()))
        return Archive("Mine", data_dir=tmp_path, **options)

    return write


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "x.ts"
    path.write_text(ts([([[1, 2.5, "?"], [-3, "NaN", 1e3]], "b"), ([[7], [8]], "a")]))
    file = read_ts(path)
    assert file.classes == ("a", "b")
    assert [(case.label, case.line) for case in file.cases] == [(1, 7), (0, 8)]
    np.testing.assert_array_equal(
        file.cases[0].series, np.array([[1, -3], [2.5, np.nan], [np.nan, 1e3]], "f4")
    )
    np.testing.assert_array_equal(file.cases[1].series, [[7, 8]])


def test_channels_are_scaled_by_the_training_part_and_padding_is_masked(problem):
    task = problem()
    assert (task.d_in, task.d_out, task.length, task.classes) == (2, 2, 6, ("a", "b"))
    parts = {split: list(task.dataset(split, 0)) for split in SPLITS}
    assert [len(parts[split]) for split in SPLITS] == [16, 4, 10]
    valid = np.concatenate([e.inputs[e.mask > 0] for e in parts["train"]])
    np.testing.assert_allclose(valid.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(valid.std(0), 1, atol=1e-5)
    for examples in parts.values():
        assert {int(e.targets) for e in examples} == {0, 1}
        for e in examples:
            length = int(e.mask.sum())
            assert (e.mask[:length] == 1).all() and (e.inputs[length:] == 0).all()
    raw, _ = drawn(10, 1)[2]
    e, ratio = parts["test"][2], np.diff(np.array(raw).T, axis=0)
    scaled = np.diff(e.inputs[e.mask > 0], axis=0)
    np.testing.assert_allclose(np.ptp(scaled / ratio, 0), 0, atol=1e-3)
    for split in SPLITS:
        check_examples(task, split, 0)


@pytest.mark.parametrize("split", ["archive", "resampled", "train_file"])
def test_splits_are_disjoint_stratified_and_fixed_by_their_seed(problem, split):
    task = problem(split=split)

    def cases(task):
        return [{e.inputs.tobytes() for e in task.dataset(part, 0)} for part in SPLITS]

    sizes = {"archive": [16, 4, 10], "resampled": [20, 6, 4], "train_file": [14, 2, 4]}[split]
    parts = cases(task)
    assert [len(part) for part in parts] == sizes
    assert cases(pickle.loads(pickle.dumps(task))) == parts
    everything = [e for part in SPLITS for e in task.dataset(part, 0)]
    assert len({e.inputs.tobytes() for e in everything}) == sum(sizes)
    train = [int(e.targets) for e in task.dataset("train", 0)]
    assert train.count(0) == train.count(1)
    final = replace(task, final=True)
    assert len(final.dataset("train", 0)) == sizes[0] + sizes[1]
    assert [int(e.targets) for e in replace(task, split_seed=1).dataset("valid", 0)]


def test_jitter_is_drawn_anew_in_every_epoch_and_in_training_alone(problem):
    task = problem(jitter=0.5)
    plain = replace(task, jitter=0.0)
    epochs = task.dataset("train", 0).repeat()
    first, second, still = epochs[3].inputs, epochs[3 + 16].inputs, plain.dataset("train", 0)[3]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, task.dataset("train", 0)[3].inputs)
    noise = np.concatenate([(epochs[3 + 16 * k].inputs - still.inputs).ravel() for k in range(99)])
    noise = noise[noise != 0]  # none on padding
    assert abs(noise.std() - 0.5) < 0.05 and len(noise) == 99 * 2 * int(still.mask.sum())
    for split in ("valid", "test"):
        a, b = (t.dataset(split, 0)[1].inputs for t in (task, plain))
        np.testing.assert_array_equal(a, b)


def test_missing_values_are_refused_with_their_place_or_carried(problem):
    cases = drawn(20, 0)
    cases[4][0][1][0] = "?"
    cases[5][0][0][2] = "NaN"
    with pytest.raises(UserError, match=r"TRAIN.ts line 11: channel 2 is not a number at step 0"):
        _ = problem(ts(cases)).d_in
    carried = problem(ts(cases), missing="carry", final=True)
    e = [example.inputs for example in carried.dataset("train", 0)]
    assert e[4][0, 1] == e[4][1, 1] and e[5][2, 0] == e[5][1, 0]
    cases[4][0][1][:] = ["?"] * len(cases[4][0][1])
    with pytest.raises(UserError, match=r"channel 2 .*no step of this channel has one"):
        _ = problem(ts(cases), missing="carry").d_in


TWO = drawn(20, 0)
FLAT = [([[1.5] * len(x), y], label) for (x, y), label in TWO]
WRONG = {
    "class absent": (ts(TWO, "a b c"), ts(TWO, "a b c"), "class c of Mine has no case"),
    "constant": (ts(FLAT), None, r"channel 1 of Mine is 1\.5 in all 16 .*without 1"),
    "cut in a number": (ts(TWO).rstrip()[:-9], None, r"line 26: it ends in .*truncated"),
    "channel lost": (ts(TWO)[: ts(TWO).rindex(":", 0, -4)] + ":a\n", None, "line 26.*channels"),
    "no number": (ts([([[1, "x1"], [2, 3]], "a"), *TWO]), None, "line 7, channel 1, step 1: 'x1'"),
    "unequal": (ts([([[1, 2], [2]], "a"), *TWO]), None, "line 7: channel 2 has 1 steps"),
    "no data": (ts(TWO)[:60], None, "before @data"),
    "no case": (ts([]), None, "no case after @data"),
    "no classes": (ts(TWO).replace("true a b", "false"), None, "names no classes"),
    "no word": (ts(TWO).replace(" true a b", ""), None, "names no classes"),
    "class twice": (ts(TWO, "a b a"), None, "names the class a twice"),
    "large": (
        ts([([[1, 1e39], [2, 3]], "a"), *TWO]),
        None,
        r"step 1: '1e\+39' does not fit into fl",
    ),
    "large, one missing": (ts([([["?", -1e39]] * 2, "a"), *TWO]), None, "step 1: .*into float32"),
    "dimensions": (ts(TWO, dimensions=3), None, "line 7: 2 channels where @dimensions promises 3"),
    "stamps": (ts(TWO).replace("timeStamps false", "timeStamps true"), None, "time stamps"),
    "other test": (None, ts(drawn(10, 1), "b a"), "does not belong to"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_files_are_one_clear_line(problem, name):
    train, test, match = WRONG[name]
    with pytest.raises(UserError, match=match) as error, warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = problem(train, test).d_in
    assert "\n" not in str(error.value)


def test_too_few_cases_a_wrong_name_and_a_cut_archive_are_one_clear_line(problem, tmp_path):
    with pytest.raises(UserError, match=r"too few cases for a split: of 4 .*none is left for \w+"):
        _ = problem(ts(drawn(4, 0)), split="train_file").d_in
    task = problem()
    with pytest.raises(UserError, match=r"'Mien' is in none of .*did you mean Mine\?"):
        _ = replace(task, problem="Mien").d_in
    with pytest.raises(UserError, match="channels 1 to 2"):
        _ = replace(task, without=(3,)).d_in
    assert replace(task, without=(1,)).d_in == 1
    path = tmp_path / "cut.ts.gz"
    path.write_bytes(gzip.compress(ts(drawn(500, 0)).encode())[:-200])
    with pytest.raises(UserError, match=r"cut.ts.gz breaks off after line \d+ .*truncated"):
        read_ts(path)


@pytest.mark.skipif(not (SHARED / "uea").is_dir(), reason="the archive's files are not at hand")
def test_the_archives_own_files_have_their_published_sizes():
    sizes = {"BasicMotions": (40, 40, 6, 100, 4), "JapaneseVowels": (270, 370, 12, 29, 9)}
    for name, (train, test, channels, length, classes) in sizes.items():
        task = Archive(name, data_dir=SHARED)
        counts = [len(task.dataset(split, 0)) for split in SPLITS]
        assert (counts[0] + counts[1], counts[2]) == (train, test)
        assert (task.d_in, task.length, task.d_out) == (channels, length, classes)


def test_spoken_words_are_scaled_framed_and_shifted(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in CLIPS.values():
        few = rng.integers(-900, 900, (20, 800)).astype("<i2")  # which pack quickly
        clips = np.tile(few, (count // 20, 20))
        path = folder / f"{name}_int16le_{count}x16000.raw.xz"
        path.write_bytes(lzma.compress(clips.tobytes(), preset=0))
        rows = [f"word/{i}.wav,{i % 4}" for i in range(count)]
        table = "file,label\n" + "\n".join(rows) + "\n"
        (folder / f"{name}_files.csv.gz").write_bytes(gzip.compress(table.encode()))
    task = SpokenWords(frame=64, data_dir=tmp_path)
    e = task.dataset("test", 0)[5]
    assert e.inputs.shape == (250, 64) and e.targets == 1
    np.testing.assert_allclose(np.mean(e.inputs**2), 1, rtol=1e-3)
    np.testing.assert_allclose(e.inputs.ravel(), 
        clips[5] / np.sqrt(np.mean(clips[5].astype(float) ** 2)), rtol=1e-3, atol=1e-4)  # fmt: skip
    check_examples(task, "train", 0)
    moved = replace(task, shift=500).dataset("train", 0).repeat()
    still = task.dataset("train", 0)[7].inputs.ravel()
    for epoch in range(3):
        x = moved[7 + 600 * epoch].inputs.ravel()
        by = int(np.argmax([np.roll(still, k)[600:-600] @ x[600:-600] for k in range(-500, 501)]))
        np.testing.assert_allclose(x[600:-600], np.roll(still, by - 500)[600:-600], atol=1e-5)
    other = tmp_path / "cut" / FOLDER
    other.mkdir(parents=True)
    (other / path.name).write_bytes(path.read_bytes()[:-99])
    with pytest.raises(UserError, match="truncated or damaged"):
        replace(task, data_dir=tmp_path / "cut").dataset("test", 0)


def test_only_the_first_steps_of_an_early_signal_tell_its_class():
    task = EarlySignal(length=200, early=20, strength=2.0)
    batch = data.examples(task, "train", 0, 400)
    early, late = batch.inputs[:, :20].mean(1), batch.inputs[:, 20:].mean(1)
    means = np.stack([early[batch.targets == k].mean(0) for k in range(5)])

    def accuracy(x, centres):
        nearest = np.square(x[:, None] - centres).sum(-1).argmin(1)
        return np.mean(nearest == batch.targets)

    assert accuracy(early, means) > 0.99
    late_means = np.stack([late[batch.targets == k].mean(0) for k in range(5)])
    assert accuracy(late, late_means) < 0.45  # chance, and what five fitted means add
    check_examples(task, "test", 0)


# Oscillators


def test_oscillators_are_the_loop_of_their_equations_in_both_modes(x64):
    rng = np.random.default_rng(0)
    A, step = rng.uniform(0, 2, 5), rng.uniform(0.1, 1, 5)
    force = rng.normal(size=(23, 3, 5))
    z, y, expected = np.zeros((3, 5)), np.zeros((3, 5)), []
    for f in force:  # z' = z + s (f - A y'), y' = y + s z': one linear system for both
        y = (y + step * (z + step * f)) / (1 + step**2 * A)
        z = z + step * (f - A * y)
        expected.append(y)
    for mode in OscillatorConfig.modes:
        found = oscillate(jnp.asarray(A), jnp.asarray(step), jnp.asarray(force), mode)
        close(found, np.array(expected), 1e-12, mode)


def test_small_steps_of_an_oscillator_are_its_differential_equation(x64):
    A, force, steps = 4.0, 0.7, 20_000
    step = 3.0 / steps
    y = oscillate(
        jnp.asarray([A]), jnp.asarray([step]), jnp.full((steps, 1, 1), force), "parallel"
    )[:, 0, 0]
    # (y, y', f)' = M (y, y', f) with a constant force f
    M = np.array([[0, 1, 0], [-A, 0, 1], [0, 0, 0.0]])
    for at in (steps // 3, steps):
        exact = expm(M * at * step) @ [0, 0, force]
        np.testing.assert_allclose(y[at - 1], exact[0], atol=1e-3)


# Strided reads, stacks in blocks, several tau


@pytest.mark.parametrize("form", [form for form in FORM_NAMES if form != OWN])
@pytest.mark.parametrize("T", [1, 23])
def test_a_strided_recurrence_has_every_so_manyth_state(form, T, x64):
    rng, P, D, N = np.random.default_rng(0), 10, 3, 2
    A = jax.tree.map(lambda p: p + 0.05 * jnp.cos(p), transition(form, P))
    B, S, u = (jnp.asarray(rng.normal(size=s)) for s in ((P, D), (P, 2), (N, T, D)))
    whole = Recurrence(A, Projection(B), u, InitialState(S, u[:, 0, :2]))
    drive = jnp.swapaxes(whole.B.apply(u), 0, 1).at[0].add(whole.start.theta)
    states = linear_scan(A, drive)
    for doublings in (0, 1, 3):
        part = whole.strided(doublings)
        drive = jnp.swapaxes(part.B.apply(part.u), 0, 1).at[0].add(part.start.theta)
        close(linear_scan(part.A, drive), states[:: 1 << doublings], 1e-10)


WAVES = WarpConfig(
    root=Mlp(width=4, depth=1),
    transition=Rotation(start="oscillate", radius=0.9),
    write=Matrix(scale=0.3),
    drive="value",
    mode="scan",
)
BLOCKS = StackConfig(
    below=replace(WAVES, root=Linear()), layers=2, channels=4, gated=True, last=WAVES
)
STRIDED = replace(BLOCKS, encoder=WAVES, every=4)


def moved(config, d_in=3, d_out=2):
    """In float64, off its start."""
    graph, params = nnx.split(config.build(d_in, d_out, rngs=nnx.Rngs(0)))
    params = jax.tree.map(lambda p: jnp.asarray(p, float) + 0.1 * jnp.cos(7 * p), params)
    return nnx.merge(graph, params)


def sequences(T=19, d_in=3):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(size=(2, T, d_in))), jnp.tile(jnp.linspace(0.0, 1, T), (2, 1))


def run(model, *args, **options):
    return jax.jit(lambda *args: model(*args, **options))(*args)


def test_blocks_around_the_layers_are_their_equation(x64):
    model, (x, times) = moved(BLOCKS), sequences()
    u = np.asarray(x) @ np.asarray(model.encoder.kernel[...]) + np.asarray(model.encoder.bias[...])
    for layer, gate in zip(model.below, model.gates, strict=True):
        v = (u - u.mean(-1, keepdims=True)) / np.sqrt(u.var(-1, keepdims=True) + 1e-6)
        v = v * np.asarray(gate.norm.scale[...]) + np.asarray(gate.norm.bias[...])
        y = np.asarray(run(layer, jnp.asarray(v), times))
        y = y / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (y + 0.044715 * y**3)))
        a, b = np.split(
            y @ np.asarray(gate.gates.kernel[...]) + np.asarray(gate.gates.bias[...]), 2, -1
        )
        u = u + a / (1 + np.exp(-b))
    expected = model.last(x, times, tokens=jnp.asarray(u))
    close(run(model, x, times), expected, 1e-10)


def test_an_encoder_that_is_read_at_some_steps_is_the_whole_one_there(x64):
    model, (x, times) = moved(STRIDED), sequences()
    whole = run(model.encoder, x, times)
    for mode in ("scan", "conv", "parallel"):
        close(run(model.encoder, x, times, every=4, mode=mode), whole[:, ::4], 1e-9, mode)
    y = run(model, x, times)
    assert y.shape == (2, 19, 2)
    for t in range(19):
        np.testing.assert_array_equal(y[:, t], y[:, t - t % 4])
    at = jnp.array([3, 17])
    close(run(model, x, times, steps=at), y[jnp.arange(2), at], 1e-9)
    close(run(model, x, times, steps="last"), y[:, -1], 1e-9)
    later = run(model, x.at[:, 13:].add(1.0), times)
    np.testing.assert_allclose(later[:, :13], y[:, :13], atol=1e-12)
    assert np.abs(later[:, 16:] - y[:, 16:]).max() > 1e-3
    theta = jax.jit(lambda *args: model.states(*args))(x, times)
    assert theta.shape == (2, 19, model.last.network.size)


@pytest.mark.parametrize("query", [Query(points=3), Query(points=2, inputs=True)])
def test_answers_at_several_tau_are_combined_in_every_execution(query, x64):
    config = replace(WAVES, query=query, lift=MlpLift(width=4, size=3))
    model, (x, times) = moved(config), sequences()
    theta = run(lambda *args: model.states(*args), x, times)
    tau, mix = (np.asarray(p[...]) for p in (model.points.tau, model.points.mix))
    expected = np.zeros((2, 19, 2))
    for t in range(19):
        for k in range(len(tau)):
            z = np.full((2, 1), tau[k])
            z = np.concatenate([z, x[:, t]], 1) if query.inputs else z
            answer = model.network.apply(theta[:, t].T, jnp.asarray(z.T))
            expected[:, t] += np.asarray(answer).T @ mix[2 * k : 2 * k + 2]
    state, streamed = model.start(x[:, 0]), []
    advance = jax.jit(lambda *args: model.advance(*args))
    for t in range(19):
        state, y = advance(state, x[:, t], times[:, t])
        streamed.append(y)
    close(jnp.stack(streamed, 1), expected, 1e-9, "streaming")
    at = jnp.array([5, 18])
    for mode in WarpConfig.modes:
        close(run(model, x, times, mode=mode), expected, 1e-9, mode)
        found = run(model, x, times, steps=at, mode=mode)
        close(found, expected[np.arange(2), at], 1e-9, mode)
    total, _ = model.total(lambda y: (y.sum(), ()), x, times, ())
    close(total, expected.sum(), 1e-9)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: Query(points=0), "points None"),
        (lambda: Query(points=2, time=False, inputs=True), "points None"),
        (lambda: replace(BLOCKS, every=2), "1 without an encoder"),
        (lambda: replace(STRIDED, every=3), "power of two"),
        (lambda: replace(STRIDED, encoder=replace(WAVES, mode="auto")), "encoder.mode"),
        (lambda: replace(STRIDED, encoder=replace(WAVES, weight_clip=1.0, mode="scan")), "clip"),
        (lambda: replace(STRIDED, below=replace(WAVES, positions=Positions())), "positions"),
        (lambda: Archive(validation=1.0), "between 0 and 1"),
        (lambda: Archive(jitter=-1.0), "at least 0"),
        (lambda: SpokenWords(frame=7), "divide the 16000"),
        (lambda: EarlySignal(early=300, length=200), "at most the length 200"),
        (lambda: OscillatorConfig(states=0), "at least 1"),
        (lambda: Accuracy(batches=0), "at least 1"),
        (lambda: Accuracy().check(EarlySignal(), WAVES), "has no end"),
    ],
)
def test_what_cannot_be_is_refused(make, cure):
    with pytest.raises(ValueError, match=cure):
        make()


# Accuracy


class Oracle(Model):
    """Class 1 where the last valid step of channel 1 is above the mean, else class 0."""

    def __call__(self, inputs, times, *, steps):
        last = jnp.take_along_axis(inputs, steps[:, None, None], 1)[:, 0, 0]
        return jnp.stack([jnp.zeros_like(last), last], 1)


def test_accuracy_picks_the_class_of_the_last_step_from_those_of_every_step():
    task = NewClasses(masked=True)
    rows = Accuracy(batches=1)(Oracle(), task, 0).rows
    assert rows["most frequent class"][1] == pytest.approx(1 / task.d_out, abs=0.2)


def test_no_rate_is_chosen_by_cases_that_are_trained_on(problem, tmp_path):
    task = problem(final=True)
    file = tmp_path / "mine.py"
    file.write_text(
        "from pathlib import Path\nfrom wsrnn import Experiment, WarpConfig\n"
        "from wsrnn.tasks.archive import Archive\n"
        f'task = Archive("Mine", final=True, data_dir=Path("{task.data_dir}"))\n'
        "experiment = Experiment(task, WarpConfig(), steps=2, batch_size=4)\n"
    )
    with pytest.raises(UserError, match="task\\.final False"):
        trials([Recipe.read(file)], tmp_path / "out", 1, (0.1, 0.2))


def test_a_problem_of_known_sizes_read_from_its_training_file_alone_has_that_files(tmp_path):
    folder = tmp_path / "uea" / "JapaneseVowels"
    folder.mkdir(parents=True)
    (folder / "JapaneseVowels_TRAIN.ts").write_text(ts(drawn(20, 0)))
    task = Archive("JapaneseVowels", split="train_file", data_dir=tmp_path)
    assert (task.d_in, task.d_out, task.length) == (2, 2, 6)
    check_examples(task, "train", 0)


def test_accuracy_reads_the_last_valid_step_and_counts_every_case_once(problem):
    task = problem()
    batch = data.examples(task, "test", 0, 10)
    at = np.asarray(last_valid(jnp.asarray(batch.mask)))
    right = (batch.inputs[np.arange(10), at, 0] > 0) == batch.targets
    result = Accuracy()(Oracle(), task, 0)
    each = [right[batch.targets == k].mean() for k in (0, 1)]
    np.testing.assert_allclose(result.rows["this model"], [np.mean(each), right.mean()], 1e-6)
    assert result.rows["most frequent class"] == [0.5, 0.5]
    assert "10 cases (test)" in result.title and set(result.figures) == {"confusion"}
    assert "4 cases (valid)" in Accuracy(split="valid")(Oracle(), task, 0).title
    with pytest.raises(ValueError, match="one class a sequence"):
        Experiment(task=LinearRegression(layout=JointMasked()), model=WAVES, evaluation=Accuracy())
