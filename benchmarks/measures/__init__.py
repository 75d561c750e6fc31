"""What is measured beside training, by name: the module, which has `measure(quick) -> list[Row]`."""

MEASURES = {
    name: f"benchmarks.measures.{name}"
    for name in ("startup", "epoch", "checkpoint", "evaluation", "generation", "sweep")
}
