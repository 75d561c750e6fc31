"""What a field's annotation says beyond its type: which values it takes, and whether it is a number of the program.

A field annotated with one of the `...Number` types is *data*: it is an argument of the compiled training program, so
changing it never compiles again and a sweep can batch it. Every other field is *structure*. This file imports nothing
of neuralmon, so that models and layers can use it and still be lifted into any other project.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias


@dataclasses.dataclass(frozen=True)
class Range:
    """The closed interval [low, high], without its lower end where `above` is True."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.high == math.inf:
            if self.low == -math.inf:
                return "a finite number"
            return f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        return f"above {self.low:g}, up to {self.high:.10g}" if self.above else f"{self.low:g} to {self.high:.10g}"


@dataclasses.dataclass(frozen=True)
class NumberMark:
    """Marks a field as an argument of the compiled program (see the module's docstring)."""


Number: TypeAlias = Annotated[float, NumberMark(), Range()]
PositiveNumber: TypeAlias = Annotated[float, NumberMark(), Range(0, above=True)]
NonNegativeNumber: TypeAlias = Annotated[float, NumberMark(), Range(0)]
FractionNumber: TypeAlias = Annotated[float, NumberMark(), Range(0, 1)]
SeedNumber: TypeAlias = Annotated[int, NumberMark(), Range(0, 2**31 - 1)]

PositiveFloat: TypeAlias = Annotated[float, Range(0, above=True)]
PositiveInt: TypeAlias = Annotated[int, Range(1)]
NonNegativeInt: TypeAlias = Annotated[int, Range(0)]

# By name on the command line: `relu`, `gelu`, `flax.linen.silu`; `float32`, `bfloat16`.
Activation: TypeAlias = Callable[..., Any]
Dtype: TypeAlias = Annotated[Any, "dtype"]
