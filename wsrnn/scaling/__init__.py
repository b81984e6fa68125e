"""Scaling on paper: what a training step takes on devices that need not be there.

traced    a step, traced for a mesh of any size: operations, bytes, collectives, memory
devices   the accelerators: peak rates by data sheet, and what is assumed of them
forecast  both together: bytes on each device, seconds of a step, seconds of exchanges
compiled  the collectives and the memory that XLA made of a step
measured  the step compiled and run on the devices that are there
"""

from wsrnn.scaling.compiled import Memory, memory, volume
from wsrnn.scaling.devices import DEVICES, FRACTION, Device
from wsrnn.scaling.forecast import Forecast, Leaf, forecast, on_mesh, shapes, splittable
from wsrnn.scaling.measured import SIMULATED, Measured, check_visible, compile_step, measure
from wsrnn.scaling.traced import Collective, Tally

__all__ = [
    "DEVICES",
    "FRACTION",
    "SIMULATED",
    "Collective",
    "Device",
    "Forecast",
    "Leaf",
    "Measured",
    "Memory",
    "Tally",
    "check_visible",
    "compile_step",
    "forecast",
    "measure",
    "memory",
    "on_mesh",
    "shapes",
    "splittable",
    "volume",
]
