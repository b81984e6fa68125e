"""The package's models, tasks and evaluations, as the command line offers them by name.

A class that is listed here can be named (``evaluation:loss-only``); one that is not, or that stands
in an experiment file, works all the same. Imported when asked for: an experiment needs few of them.
"""


def models() -> tuple[type, ...]:
    """The configurations of models."""
    from wsrnn.models.peers.dlinear import DLinearConfig
    from wsrnn.models.peers.fast_weights import FastWeightsConfig
    from wsrnn.models.peers.linear_attention import LinearAttentionConfig
    from wsrnn.models.peers.oscillator import OscillatorConfig
    from wsrnn.models.peers.rnn import RnnConfig
    from wsrnn.models.peers.ssm import SsmConfig
    from wsrnn.models.peers.transformer import TransformerConfig
    from wsrnn.models.warp import WarpConfig
    from wsrnn.models.warp.ordinary import OrdinaryConfig
    from wsrnn.models.warp.selective import DeltaWarpConfig, SelectiveConfig
    from wsrnn.models.warp.stack import StackConfig

    return (
        WarpConfig, StackConfig, DeltaWarpConfig, SelectiveConfig, OrdinaryConfig,
        FastWeightsConfig, LinearAttentionConfig, RnnConfig, SsmConfig, OscillatorConfig,
        TransformerConfig, DLinearConfig,
    )  # fmt: skip


def tasks() -> tuple[type, ...]:
    """The tasks."""
    from wsrnn.tasks import (
        archive,
        classes,
        dynamics,
        early,
        images,
        recall,
        regression,
        series,
        systems,
        tables,
        words,
    )

    return (
        regression.LinearRegression, regression.Quadratic, regression.OutlierRegression,
        regression.ReluNetwork, regression.DecisionTree, regression.Sinusoid,
        regression.GaussianProcess, regression.Parity, dynamics.LinearSystem, recall.VectorRecall,
        recall.Mqar, classes.NewClasses, classes.BurstyClasses, tables.Tables,
        tables.SyntheticTables, series.Series, series.Ett, series.Traffic, series.Public,
        images.ImageCompletion, images.ImageClasses,
        archive.Archive, words.SpokenWords, early.EarlySignal,
        systems.Sine, systems.MassSpringDamper, systems.Spirals, systems.LotkaVolterra,
        systems.Lorenz,
    )  # fmt: skip


def evaluations() -> tuple[type, ...]:
    """The evaluations."""
    from wsrnn.evaluations import LossOnly
    from wsrnn.evaluations.completion import Completion
    from wsrnn.evaluations.forecast import Forecast
    from wsrnn.evaluations.in_context import PrefixError, QueryError
    from wsrnn.evaluations.labels import Accuracy
    from wsrnn.evaluations.sequences import Recall, StepScores
    from wsrnn.evaluations.systems import SystemErrors
    from wsrnn.evaluations.tables import TableErrors

    return (
        LossOnly, PrefixError, QueryError, StepScores, Recall, TableErrors, Forecast, Completion,
        Accuracy, SystemErrors,
    )  # fmt: skip
