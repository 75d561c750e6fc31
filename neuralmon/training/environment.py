"""The former place of `neuralmon.process`."""

from neuralmon.process import configure as configure
from neuralmon.process import describe as describe
