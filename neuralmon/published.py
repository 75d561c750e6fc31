"""What others have published, to stand beside what was measured; nothing here imports jax."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """The figure that an experiment is to be compared with: the value `PUBLISHED` of the experiment's file.

        PUBLISHED = nm.Published(metric="accuracy", value=0.9905, source="LeCun et al. 1998, fig. 9")

    Attributes:
      metric: which of the test metrics it is.
      value: the published figure, in the metric's unit; None: the metric is what to look at, but nobody published it.
      source: who published it and where, and what differs.
    """

    metric: str
    value: float | None = None
    source: str = ""
