"""Accelerators that a step is planned for: their peak rates, and what of them is assumed.

Data sheets: NVIDIA's of A100 80GB SXM, H100 SXM and H200 SXM, and of the DGX systems that hold
eight of each; Google's pages on Cloud TPU v5e and v5p. Sheets give dense rates and links of both
directions together: here they are of one direction. Only `cpu` has been measured here.
"""

from typing import NamedTuple

from wsrnn.costs import PEAKS
from wsrnn.recurrence.costs import RATES

FRACTION = 0.5
"""Of the peak rates and bandwidths, reached by large products, long arrays and long messages: an
assumption, but for cpu, whose rates are those that were reached."""


class Device(NamedTuple):
    """One accelerator and what connects it to others; rates in operations and bytes a second."""

    backend: str
    """Whose executions and Fourier transforms `recurrence.costs.RATES` describes."""
    float32: float
    """Products at full precision, as for all states: CUDA cores, or six bfloat16 passes of a
    TPU."""
    fast: float
    """Float32 products at jax's default precision: TF32, or one bfloat16 pass of a TPU."""
    bfloat16: float
    memory: float
    """Bytes."""
    bandwidth: float
    """Of the memory, in bytes a second."""
    link: float
    """Bytes a second to the others of its group, in one direction."""
    group: int
    """Devices that these links connect: a server, or a pod."""
    network: float
    """Bytes a second to other groups, one device's share."""
    launch: float
    """Seconds that an operation takes however small it is: an assumption."""
    latency: float
    """Seconds that a collective takes however small it is: an assumption."""
    fraction: float = FRACTION
    """Of all these rates that is reached."""

    def rate(self, kind: str) -> float:
        """Operations a second of a kind of `traced.Work`, as reached."""
        if kind == "transform":
            return RATES[self.backend].per_second.transform
        return self.fraction * getattr(self, kind)


CPU = RATES["cpu"].per_second


def _gpu(kind: str, float32: float, memory: float, bandwidth: float, link: float, network: float):
    """Eight in a server; TF32 has half the rate of bfloat16."""
    bfloat16 = PEAKS[kind]
    return Device("gpu", float32, bfloat16 / 2, bfloat16, memory, bandwidth, link, 8, network,
                  5e-6, 20e-6)  # fmt: skip


def _tpu(kind: str, memory: float, bandwidth: float, link: float, group: int, network: float):
    """Float32 at full precision takes six passes in bfloat16."""
    bfloat16 = PEAKS[kind]
    return Device("tpu", bfloat16 / 6, bfloat16, bfloat16, memory, bandwidth, link, group, network,
                  2e-6, 10e-6)  # fmt: skip


DEVICES = {
    "a100": _gpu("NVIDIA A100", 19.5e12, 80e9, 2.039e12, 300e9, 25e9),
    "h100": _gpu("NVIDIA H100", 67e12, 80e9, 3.35e12, 450e9, 50e9),
    "h200": _gpu("NVIDIA H200", 67e12, 141e9, 4.8e12, 450e9, 50e9),
    "tpu-v5e": _tpu("TPU v5e", 16e9, 819e9, 200e9, 256, 3.1e9),
    "tpu-v5p": _tpu("TPU v5p", 95e9, 2.765e12, 600e9, 6144, 6.25e9),
    "cpu": Device(
        "cpu", CPU.product, CPU.product, CPU.product, 16e9, CPU.passing, CPU.passing, 2**20,
        CPU.passing, 1 / CPU.steps, 20e-6, 1.0,
    ),
}  # fmt: skip
"""By the names that `wsrnn plan --device` takes. cpu: the two cores that plan.py was measured on,
taken as one device; simulated devices share them, and exchange through memory."""
