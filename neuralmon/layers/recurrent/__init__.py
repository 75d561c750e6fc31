"""Recurrent layers: three kinds of cell, the loop over time, stacks of both directions, and models made of them."""

from neuralmon.layers.recurrent.cells import ElmanLayer, GRULayer, LSTMLayer
from neuralmon.layers.recurrent.loop import RecurrentLayer, State, mask_from_lengths
from neuralmon.layers.recurrent.sequence_model import SequenceModel
from neuralmon.layers.recurrent.stack import Recurrent

__all__ = [
    "ElmanLayer",
    "GRULayer",
    "LSTMLayer",
    "Recurrent",
    "RecurrentLayer",
    "SequenceModel",
    "State",
    "mask_from_lengths",
]
