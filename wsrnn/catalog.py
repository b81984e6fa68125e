"""The package's models, tasks and evaluations, as the command line offers them by name.

A class that is listed here can be named (``evaluation:loss-only``); one that is not, or that stands
in an experiment file, works all the same. Imported when asked for: an experiment needs few of them.
"""


def models() -> tuple[type, ...]:
    """The configurations of models."""
    from wsrnn.models.peers.dlinear import DLinearConfig
    from wsrnn.models.peers.fast_weights import FastWeightsConfig
    from wsrnn.models.peers.linear_attention import LinearAttentionConfig
    from wsrnn.models.peers.rnn import RnnConfig
    from wsrnn.models.peers.ssm import SsmConfig
    from wsrnn.models.peers.transformer import TransformerConfig
    from wsrnn.models.warp import WarpConfig
    from wsrnn.models.warp.selective import DeltaWarpConfig, SelectiveConfig
    from wsrnn.models.warp.stack import StackConfig

    return (
        WarpConfig, StackConfig, DeltaWarpConfig, SelectiveConfig, FastWeightsConfig,
        LinearAttentionConfig, RnnConfig, SsmConfig, TransformerConfig, DLinearConfig,
    )  # fmt: skip


def tasks() -> tuple[type, ...]:
    """The tasks."""
    from wsrnn.tasks import classes, dynamics, pixels, recall, regression, series, tables

    return (
        regression.LinearRegression, regression.Quadratic, regression.OutlierRegression,
        regression.ReluNetwork, regression.DecisionTree, regression.Sinusoid,
        regression.GaussianProcess, regression.Parity, dynamics.LinearSystem, recall.VectorRecall,
        recall.Mqar, classes.NewClasses, classes.BurstyClasses, tables.Tables,
        tables.SyntheticTables, series.Series, series.Ett, series.Traffic, series.Public,
        pixels.PixelSequence,
    )  # fmt: skip


def evaluations() -> tuple[type, ...]:
    """The evaluations."""
    from wsrnn.evaluations import LossOnly
    from wsrnn.evaluations.completion import Completion
    from wsrnn.evaluations.forecast import Forecast
    from wsrnn.evaluations.in_context import PrefixError, QueryError
    from wsrnn.evaluations.sequences import Recall, StepScores
    from wsrnn.evaluations.tables import TableErrors

    return (
        LossOnly, PrefixError, QueryError, StepScores, Recall, TableErrors, Forecast, Completion,
    )  # fmt: skip
