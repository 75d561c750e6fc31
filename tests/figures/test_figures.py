"""What the figures show is what the data say; looked up in matplotlib's Figure, not in pixels."""

import io
import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from neuralmon import figures
from neuralmon.figures import curves, style

LONG = "a class with a name of sixty characters that ends in number {}"
RANDOM = np.random.default_rng(0)


def draw(name, **data):
    figure = figures.figure(name, **data)
    figure.canvas.draw()
    return figure


def texts(figure):
    """Returns every visible text of a figure that is not empty."""
    found = figure.findobj(lambda artist: isinstance(artist, matplotlib.text.Text) and artist.get_visible())
    return [text.get_text() for text in found if text.get_text()]


def pictures(figure):
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def panel(figure, title):
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == title)
    return axes


def overlaps(figure, labels):
    """Whether neighbouring labels of an axis run into each other."""
    renderer = figure.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in labels if label.get_text()]
    boxes = [box.shrunk(0.98, 0.98) for box in boxes]
    return any(one.overlaps(two) for one, two in itertools.pairwise(boxes))


# Whatever comes, a picture of sensible size comes out.

NAMES = [LONG.format(index) for index in range(300)]
SWEEPS = ("trials_by_parameter", "parallel_coordinates", "trial_curves")
SMALL = {
    "data": {"inputs": np.zeros((2, 3, 3, 1)), "labels": ["a", "b"]},
    "learning_curves": {"rows": [{"step": 1, "split": "train", "loss": 1.0}]},
    "confusion_matrix": {"counts": [[1, 2], [0, 4]]},
    "per_class": {"table": {"a": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "examples": 0}}},
    "worst_mistakes": {
        "inputs": np.zeros((1, 2)),
        "true": ["a"],
        "predicted": ["b"],
        "probabilities": [0.7],
        "losses": [3],
    },
    "attention": {"weights": np.ones((1, 1, 1)), "queries": ["a"], "keys": [""]},
    "regression": {"predicted": np.ones(1), "targets": np.ones(1)},
    "first_layer_filters": {"kernel": np.zeros((3, 3, 1, 1))},
    "decision_regions": {
        "grid": figures.decision_grid(np.zeros((1, 2)), 10),
        "probabilities": np.full((100, 2), 0.5),
        "inputs": np.zeros((1, 2)),
        "targets": np.zeros(1),
    },
    "compared_regions": {
        "grid": figures.decision_grid(np.zeros((1, 2)), 10),
        "probabilities": {"a": np.full((100, 2), 0.5), "b": np.eye(2)[np.arange(100) % 2]},
        "inputs": np.zeros((1, 2)),
        "targets": np.zeros(1),
    },
    "looking": {"image": np.zeros((28, 56, 1)), "weights": np.ones((2, 7, 14)), "tokens": ["a", " "]},
    "forecast": {"actual": [1.0], "forecasts": {"model": [[2.0]]}, "rmse": {"model": [1.0]}},
    "by_length": {"lengths": [1, 2, 4], "exact": [1.0, 1.0, 0.5], "longest_trained": 2},
    "contexts": {"sentences": ["a [b]", "[b] c"], "cosines": {"one": np.ones((2, 2)), "two": -np.eye(2)}},
    "comparison": {"runs": [{"label": "a", "rows": [{"step": 1, "split": "validation", "loss": 1.0}]}]},
    "samples": {"images": np.zeros((2, 3, 28, 28, 1))},
    **{
        name: {"rows": [{"values": {"a": n}, "objective": 0.5, "curve": [(1, 0.5)]} for n in (1, 2)], "metric": "m"}
        for name in SWEEPS
    },
}  # fmt: skip
MISTAKES = {"true": NAMES[:3], "predicted": NAMES[1:4], "probabilities": [0.1, 0.2, 0.3], "losses": [1, 2, 3]}
BAD = {"loss": float("inf"), "m": 1e-30}
TRIALS = [
    {"values": {"model": NAMES[n % 40], "rate": 10.0 ** -(n % 7), "$x": None, "training.seed": n % 3},
     "objective": [0.9, -1e9, None][n % 3], "curve": [(s, float("nan") if n % 5 == 0 else n) for s in range(n % 4)]}
    for n in range(300)
]  # fmt: skip
HARD = [
    ("data", {"inputs": RANDOM.integers(0, 255, (32, 224, 224, 3), np.uint8), "labels": NAMES[:32]}),
    ("data", {"inputs": RANDOM.random((5, 20, 20, 4)), "labels": ["3 0.7 + 5 0.3"] * 5}),
    ("data", {"inputs": np.full((3, 8, 8, 1), np.nan), "labels": ["$x", "$", ""]}),
    ("data", {"inputs": RANDOM.random((3, 4, 600, 2)), "labels": RANDOM.random((3, 2))}),
    ("data", {"inputs": RANDOM.random((40, 100)), "labels": RANDOM.random(40)}),
    ("data", {"inputs": RANDOM.random((4, 50, 3)), "labels": ["a"] * 4}),
    ("data", {"inputs": RANDOM.random((4, 1)), "labels": ["a"] * 4}),
    ("data", {"inputs": RANDOM.random((4, 2)), "labels": RANDOM.random(4)}),
    ("data", {"inputs": RANDOM.random((4, 300)), "labels": ["a"] * 4, "feature_names": NAMES}),
    ("data", {"inputs": ["to be\nor not to be " * 9, ""], "labels": ["a", "b"]}),
    ("attention", {"weights": RANDOM.random((8, 24, 24)), "queries": ["t", " "] * 12, "keys": ["x"] * 24}),
    ("attention", {"weights": np.full((3, 2, 90), np.nan), "queries": ["$a$" * 40, "\t"], "keys": NAMES[:90]}),
    ("by_length", {"lengths": [7], "exact": [0.0], "longest_trained": 9}),
    ("contexts", {"sentences": NAMES[:14], "cosines": {NAMES[0]: np.full((14, 14), np.nan)}}),
    ("looking", {"image": RANDOM.random((90, 30, 3)), "weights": np.full((60, 2, 2), np.nan), "tokens": NAMES[:60]}),
    ("learning_curves", {"rows": [{"step": 1, "split": "train", "loss": None}]}),
    ("learning_curves", {"rows": [{"step": 0, "split": split, **BAD} for split in ("train", "validation")]}),
    ("learning_curves", {"rows": [], "learning_rate": np.array([[0, 0.1]])}),
    ("confusion_matrix", {"counts": np.eye(200, dtype=int), "class_names": NAMES[:200]}),
    ("confusion_matrix", {"counts": np.full((20, 20), 10**9)}),
    ("worst_mistakes", {"inputs": RANDOM.random((3, 4)), **MISTAKES}),
    ("worst_mistakes", {"inputs": RANDOM.random((3, 32, 32, 3)), **MISTAKES}),
    ("worst_mistakes", {"inputs": ["a", "b", "c"], **MISTAKES}),
    ("first_layer_filters", {"kernel": np.full((3, 3, 3, 2), 0.5)}),
    ("first_layer_filters", {"kernel": RANDOM.normal(size=(16, 16, 4, 768))}),
    ("first_layer_filters", {"kernel": RANDOM.normal(size=(9, 2, 5))}),
    ("samples", {"images": RANDOM.random((10, 10, 28, 28, 1)), "row_names": NAMES[:10]}),
    ("samples", {"images": np.full((1, 2, 64, 48, 3), np.nan), "row_names": ["$"]}),
    *((name, {"rows": TRIALS, "metric": NAMES[0]}) for name in SWEEPS),
    ("regression", {"predicted": [1e9, np.nan, 3e9], "targets": [[1e9], [1.0], [2e9]]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data"), [*SMALL.items(), *HARD])
def test_every_figure_is_a_png_of_sensible_size(name, data):
    figure = figures.figure(name, **data)
    content = style.png(figure)
    image = Image.open(io.BytesIO(content))
    image.load()
    assert 300 <= image.width <= 1800 and 100 <= image.height <= 2400
    noise = len(data.get("inputs", ())) == 32  # cannot be compressed
    assert len(content) <= (550_000 if noise else 300_000)
    low, high = image.convert("L").getextrema()
    assert low < 128 < high == 255


def test_all_figures_are_in_the_table_of_small_ones():
    assert set(SMALL) == set(figures.FIGURES)


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    draw("confusion_matrix", counts=[[1, 2], [3, 4]])
    assert dict(matplotlib.rcParams) == before


def test_attention_weights_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) are not \(heads, queries, keys\) of 3 queries and 5 keys"):
        figures.figure("attention", weights=np.ones((2, 3, 4)), queries=["a"] * 3, keys=["b"] * 5)


# What is seen.


@pytest.mark.parametrize(
    ("inputs", "value_range", "expected"),
    [
        (np.array([0, 51, 255], np.uint8), None, [0, 0.2, 1]),
        (np.array([0.0, 0.25, 0.5]), None, [0, 0.25, 0.5]),
        (np.array([-1.0, 0.0, 1.0]), None, [0, 0.5, 1]),
        (np.array([-1.0, 0.0, 3.0]), (-2.0, 2.0), [0.25, 0.5, 1]),
        (np.array([0.0, np.nan, 1.0]), None, [0, 0, 1]),
    ],
)
def test_images_are_shown_between_black_and_white(inputs, value_range, expected):
    images = inputs.reshape(3, 1, 1, 1)
    figure = draw("data", inputs=np.tile(images, (1, 4, 4, 1)), labels=["x", "y", "z"], value_range=value_range)
    shown = pictures(figure)
    assert [picture.shape for picture in shown] == [(4, 4)] * 3
    np.testing.assert_allclose([picture[0, 0] for picture in shown], expected, atol=1e-6)


def test_colours_are_kept_and_each_channel_has_its_range():
    image = np.zeros((1, 2, 2, 3))
    image[..., 0] = 1.0
    low, high = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 1.0, 2.0])
    (picture,) = pictures(draw("data", inputs=image, labels=["red"], value_range=(low, high)))
    np.testing.assert_allclose(picture[0, 0], [1, 0, 0])


def test_at_most_32_examples_carry_their_labels():
    labels = [f"label {index}" for index in range(40)]
    figure = draw("data", inputs=np.zeros((40, 8, 8, 1)), labels=labels)
    assert len(figure.axes) == 32
    assert [axes.get_title(loc="left") for axes in figure.axes] == labels[:32]


def test_both_classes_of_a_mixture_are_seen_however_long_they_are():
    label = f"{LONG.format(1)} 0.7 + {LONG.format(2)} 0.3"
    figure = draw("data", inputs=np.zeros((8, 8, 8, 1)), labels=[label] * 8)
    first, second = figure.axes[0].get_title(loc="left").splitlines()
    assert first.endswith(" 0.7") and second.startswith("+ ") and second.endswith(" 0.3")


def test_pairs_of_numbers_are_scattered_by_class_in_the_order_of_the_names():
    points = RANDOM.normal(size=(40, 2))
    figure = draw("data", inputs=points, labels=["b", "a"] * 20, class_names=["b", "a"], feature_names=["w", "h"])
    (axes,) = figure.axes
    drawn = axes.findobj(PathCollection)
    np.testing.assert_allclose(drawn[0].get_offsets(), points[::2])
    np.testing.assert_allclose(drawn[1].get_offsets(), points[1::2])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("w", "h")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b", "a"]


def test_the_table_shows_numbers_and_colours_by_column():
    values = np.array([[1.0, 100.0], [2.0, 100.0], [3.0, 100.0]]) @ np.eye(2, 3) + [0, 0, 7]
    figure = draw("data", inputs=values, labels=["x", "y", "z"], feature_names=["length", "width", "depth"])
    scores = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(scores[:, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6)
    np.testing.assert_allclose(scores[:, 1:], 0)  # constant columns have no spread
    assert {"x", "y", "z", "length", "width", "depth", "1", "2", "3", "100", "7"} <= set(texts(figure))


def test_the_worst_mistakes_come_first():
    images = np.linspace(0, 1, 40).reshape(40, 1, 1, 1) * np.ones((1, 4, 4, 1))
    losses = RANDOM.permutation(40).astype(float)
    losses[7] = np.nan
    names = [str(index) for index in range(40)]
    predicted = [*names[:-1], "other"]
    figure = draw(
        "worst_mistakes", inputs=images, true=names, predicted=predicted, probabilities=losses / 40, losses=losses
    )
    order = [7, *(index for index in np.argsort(-losses) if index != 7)][:32]
    assert [axes.get_title(loc="left").split(" ")[0] for axes in figure.axes] == [names[index] for index in order]
    np.testing.assert_allclose([picture[0, 0] for picture in pictures(figure)], images[order, 0, 0, 0])
    mistakes = [index for index in order if names[index] != predicted[index]]
    orange = [axes for axes in figure.axes if axes._left_title.get_color() == style.VALIDATION]
    assert len(orange) == len(mistakes)


# Curves.


def test_learning_curves_show_both_splits_the_best_value_and_the_learning_rate():
    rows = [{"step": step, "split": "train", "loss": 1 / step, "accuracy": 0.5} for step in range(1, 100)]
    losses = {10: 0.9, 20: 0.3, 30: None, 40: 0.5}
    validation = {"accuracy": 0.6, "f1": 0.2, "confusion": [[1]], "per_class": {"a": {"f1": 1.0}}}
    rows += [{"step": step, "split": "validation", "loss": loss, **validation} for step, loss in losses.items()]
    rates = np.array([[0, 0.1], [50, 0.2], [100, 0.0]])
    figure = draw("learning_curves", rows=rows, learning_rate=rates, monitor=("loss", "min"))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == ["loss", "accuracy", "learning rate"]
    raw, mean, validation, best = panel(figure, "loss").lines
    np.testing.assert_allclose(raw.get_xydata(), [(step, 1 / step) for step in range(1, 100)])
    assert raw.get_alpha() < 0.5 < mean.get_linewidth() and raw.get_color() == mean.get_color()
    np.testing.assert_array_equal(validation.get_ydata(), [0.9, 0.3, np.nan, 0.5])
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (20, 0.3)
    notes = "\n".join(texts(figure))
    assert "best validation: 0.3 at step 20" in notes and "1 of 4 validation values are not finite" in notes
    np.testing.assert_array_equal(panel(figure, "learning rate").lines[0].get_xydata(), rates)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "validation"]


@pytest.mark.parametrize(("name", "best"), [("loss", 1.0), ("mean_error", 1.0), ("accuracy", 3.0), ("f1", 3.0)])
def test_the_best_value_is_the_least_of_a_loss_and_the_greatest_of_a_score(name, best):
    rows = [{"step": step, "split": "validation", name: value} for step, value in enumerate([2.0, 1.0, 3.0, 2.0])]
    (axes,) = draw("learning_curves", rows=rows).axes
    assert axes.lines[-1].get_ydata()[0] == best
    (axes,) = draw("learning_curves", rows=rows, monitor=(name, "max" if best == 1.0 else "min")).axes
    assert axes.lines[-1].get_ydata()[0] == 4 - best


def test_metrics_that_only_one_split_has_are_shown_if_none_is_shared():
    rows = [{"step": 1, "split": "train", "generator_loss": 1.0}, {"step": 1, "split": "validation", "distance": 2.0}]
    assert [axes.get_title(loc="left") for axes in draw("learning_curves", rows=rows).axes] == [
        "generator loss",
        "distance",
    ]


def test_a_hundred_thousand_rows_keep_their_extremes():
    values = RANDOM.random(100_000)
    values[[7, 54_321]] = -5, 9
    values[99] = np.nan
    steps, thinned = curves.thinned(np.arange(100_000), values)
    assert len(steps) == len(thinned) <= 2000
    assert thinned.min() == -5 and thinned.max() == 9
    assert abs(steps[thinned.argmax()] - 54_321) <= 125


def test_the_running_mean_is_the_mean_and_does_not_lag():
    line = np.arange(200.0)
    middle = curves.running_mean(line, 20)[30:170]
    np.testing.assert_allclose(middle, line[30:170])
    values = RANDOM.normal(size=200)
    values[60:65] = np.nan
    expected = [np.nanmean(values[index - 10 : index + 11]) for index in range(30, 170)]
    np.testing.assert_allclose(curves.running_mean(values, 20)[30:170], expected)
    assert np.isnan(curves.running_mean(np.full(50, np.nan), 4)).all()


# Classes.


def test_the_confusion_matrix_shows_fractions_of_rows_and_counts():
    counts = [[1200, 300], [0, 0]]
    figure = draw("confusion_matrix", counts=counts, class_names=["no", "yes"])
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[0], [0.8, 0.2])
    assert shown.mask[1].all()  # no example, no fraction
    assert {"1,200", "300", "0", "no", "yes", "1,200 of 1,500 right (80.00%)"} <= set(texts(figure))


@pytest.mark.parametrize(
    ("size", "names"), [(2, "c{}"), (10, LONG), (20, LONG), (21, "c{}"), (100, LONG), (200, "class {}")]
)
def test_class_names_do_not_run_into_each_other(size, names):
    names = [names.format(index) for index in range(size)]
    figure = draw("confusion_matrix", counts=np.full((size, size), 1234), class_names=names)
    axes = figure.axes[0]
    assert not overlaps(figure, axes.get_xticklabels()) and not overlaps(figure, axes.get_yticklabels())
    assert ("1,234" in texts(figure)) == (size <= 20)
    inside = figure.get_tightbbox(figure.canvas.get_renderer())
    assert inside.x0 >= 0 and inside.y0 >= 0 and inside.x1 <= figure.get_figwidth() + 0.02


def test_what_is_no_confusion_matrix_is_refused():
    for counts in ([[1, 2, 3]], np.zeros((201, 201)), []):
        with pytest.raises(ValueError, match="1 to 200 classes"):
            figures.figure("confusion_matrix", counts=counts)


def test_classes_are_ranked_by_f1_and_the_worst_hundred_remain():
    table = {
        f"c{index}": {"precision": 0.5, "recall": 0.9, "f1": index / 150, "examples": 1000 + index}
        for index in range(150)
    }
    figure = draw("per_class", table=table)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [f"c{index}" for index in range(99, -1, -1)]
    assert figure.axes[1].get_yticklabels()[0].get_text() == "1,099"
    f1 = figure.axes[0].collections[-1].get_offsets()[:, 0]
    np.testing.assert_allclose(f1, np.arange(99, -1, -1) / 150)
    assert "100 worst of 150" in figure.get_suptitle()


# Filters, regions, regression.


def test_filters_of_one_channel_share_one_scale_around_zero():
    kernel = RANDOM.normal(size=(5, 5, 1, 70)).astype(np.float32)
    figure = draw("first_layer_filters", kernel=kernel)
    shown = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(shown) == 64 and "64 of 70" in figure.get_suptitle()
    for index, image in enumerate(shown):
        np.testing.assert_array_equal(image.get_array(), kernel[:, :, 0, index])
        low, high = image.get_clim()
        assert low == -high and (low, high) == shown[0].get_clim()


def test_filters_of_colour_have_grey_at_zero():
    kernel = np.zeros((3, 3, 3, 2))
    kernel[0, 0, 1, 0], kernel[1, 1, 2, 1] = 4.0, -0.1
    first, second = pictures(draw("first_layer_filters", kernel=kernel))
    np.testing.assert_allclose(first[0, 0], [0.5, 1, 0.5])
    np.testing.assert_allclose(second[1, 1], [0.5, 0.5, 0])
    np.testing.assert_allclose(first[2, 2], 0.5)


def test_columns_of_a_dense_layer_are_images():
    kernel = RANDOM.normal(size=(4 * 6, 5)).astype(np.float32)
    shown = pictures(draw("first_layer_filters", kernel=kernel, image_shape=(4, 6, 1)))
    np.testing.assert_array_equal(shown[3], kernel[:, 3].reshape(4, 6))
    with pytest.raises(ValueError, match="24 weights are no images"):
        figures.figure("first_layer_filters", kernel=kernel, image_shape=(4, 5, 1))


def test_the_grid_covers_all_inputs_and_decision_regions_lie_on_it():
    inputs = np.array([[0.0, 10.0], [2.0, 30.0], [np.nan, 5.0]])
    grid = figures.decision_grid(inputs, 5)
    assert grid.shape == (25, 2) and grid.dtype == np.float32
    np.testing.assert_allclose(grid[:5, 0], np.linspace(-0.16, 2.16, 5), rtol=1e-5)
    np.testing.assert_allclose(grid[:5, 1], 8.4, rtol=1e-5)
    np.testing.assert_allclose(grid[-1], [2.16, 31.6], rtol=1e-5)

    right = grid[:, 0] > 1
    probabilities = np.stack([~right, right], axis=1).astype(float)
    figure = draw(
        "decision_regions",
        grid=grid,
        probabilities=probabilities,
        inputs=inputs[:2],
        targets=np.array([0, 1]),
        validation_inputs=inputs[:1],
        validation_targets=np.array([0]),
        class_names=["left", "right"],
    )
    (axes,) = figure.axes
    plane = np.asarray(axes.images[0].get_array())
    blue, orange = (1 - 0.38 * (1 - np.array(matplotlib.colors.to_rgb(colour))) for colour in style.class_colours(2))
    np.testing.assert_allclose(plane[:, 0], np.tile(blue, (5, 1)), atol=1e-6)
    np.testing.assert_allclose(plane[:, -1], np.tile(orange, (5, 1)), atol=1e-6)
    np.testing.assert_allclose(axes.get_xlim(), (-0.16 - 0.29, 2.16 + 0.29), rtol=1e-5)
    assert [len(points.get_offsets()) for points in axes.findobj(PathCollection)] == [1, 1, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["left", "right", "training", "validation"]


@pytest.mark.parametrize("inputs", [np.zeros((3, 3)), np.zeros(4), np.full((2, 2), np.nan)])
def test_a_grid_needs_pairs_of_numbers(inputs):
    with pytest.raises(ValueError, match="decision regions need"):
        figures.decision_grid(inputs)


def test_regression_says_how_far_off_the_predictions_are():
    targets = RANDOM.normal(10, 3, 200)
    predicted = targets + RANDOM.normal(1, 1, 200)
    figure = draw(
        "regression",
        predicted=np.append(predicted, np.nan),
        targets=np.append(targets, 1.0),
        target_name="age in years",
    )
    scatter, histogram = figure.axes
    np.testing.assert_allclose(scatter.collections[0].get_offsets(), np.stack([targets, predicted], 1))
    assert sum(bar.get_height() for bar in histogram.patches) == 200
    rmse = np.sqrt(np.mean((predicted - targets) ** 2))
    r2 = 1 - np.sum((predicted - targets) ** 2) / np.sum((targets - targets.mean()) ** 2)
    assert f"RMSE {rmse:.4g}, R² {r2:.3f} (200 examples, 1 not finite)" in texts(figure)
    assert scatter.get_xlabel() == "true age in years"


# Texts, and what can be drawn.


@pytest.mark.parametrize(
    "text", ["short", LONG.format(7), "WWWWWWWWWWWWWWWWWWWWWWWW", "line\n\tbreak", "iiiiiiiiiiiiiiiiiiiiiiiiiii", ""]
)
@pytest.mark.parametrize("inches", [0.3, 1.0, 5.0])
def test_texts_fit_and_keep_both_ends(text, inches):
    fitted = style.fit(text, inches)
    line = " ".join(text.split())
    assert "\n" not in fitted
    assert style.widest([fitted]) <= inches
    assert fitted == line or (fitted.startswith(line[0]) and "…" in fitted)
    if fitted != line:
        assert style.widest([line]) > inches
        assert fitted.endswith(line[-1]) or len(fitted) == 2  # There is room for a single letter.


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"inputs": (28, 28, 1), "num_classes": 10, "kernel": (5, 5, 1, 32)},
         {"data", "learning_curves", "confusion_matrix", "per_class", "worst_mistakes", "first_layer_filters"}),
        ({"inputs": (28, 28, 1), "num_classes": 10, "kernel": (784, 32)},
         {"data", "learning_curves", "confusion_matrix", "per_class", "worst_mistakes", "first_layer_filters"}),
        ({"inputs": (4,), "num_classes": 3, "kernel": (4, 32)},
         {"data", "learning_curves", "confusion_matrix", "per_class", "worst_mistakes"}),
        ({"inputs": (2,), "num_classes": 2},
         {"data", "learning_curves", "confusion_matrix", "per_class", "worst_mistakes", "decision_regions"}),
        ({"inputs": (12, 1), "numeric_target": True}, {"data", "learning_curves", "regression"}),
        ({"inputs": (), "num_classes": 5000}, {"data", "learning_curves", "per_class", "worst_mistakes"}),
        ({"inputs": None}, {"learning_curves"}),
        ({"inputs": (8, 32, 32, 3)}, {"learning_curves"}),
    ],
)  # fmt: skip
def test_what_can_be_drawn_from_which_data(facts, expected):
    names = figures.drawable(**facts)
    assert set(names) == expected
    assert names == tuple(name for name in figures.FIGURES if name in expected)
