"""What stands beside a measured figure, published or aimed at; nothing here imports jax."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """The figure that an experiment is to be compared with: the value `PUBLISHED` of the experiment's file.

        PUBLISHED = nm.Published(metric="accuracy", value=0.9905, source="LeCun et al. 1998, fig. 9")

    Attributes:
      metric: which of the test metrics it is.
      value: the figure, in the metric's unit; None: the metric is what to look at, but there is none to stand beside.
      source: who published it and where, and what differs; or whose aim it was.
    """

    metric: str
    value: float | None = None
    source: str = ""
