"""Pictures: the data that are drawn, and where; not how they look."""

import doctest
import sys

import numpy as np
import pytest
from problems import draw_classes, draw_regression
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import (
    BackpropClassifier,
    BackpropRegressor,
    BackpropSearchCV,
    GradientFlowDisplay,
    LossCurveDisplay,
    SearchCurvesDisplay,
    WeightsDisplay,
)
from fastbp.inspection import loss_and_gradients

SETTINGS = {"tol": 1e3, "n_iter_no_change": 3, "max_iter": 20, "random_state": 0}


@pytest.fixture
def plt():
    """Provide matplotlib without a screen, and close the figures."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    return draw_classes(80, 6, 3)


@pytest.fixture(scope="module")
def classifier(data):
    return BackpropClassifier((8, 5), ["relu", "tanh"], early_stopping=True, **SETTINGS).fit(*data)


def drawn(line):
    return line.get_xdata(), line.get_ydata()


# ------------------------------------------------------------------------- LossCurveDisplay


def test_loss_curve_alone(plt, data):
    clf = BackpropClassifier((8,), **SETTINGS).fit(*data)
    display = LossCurveDisplay.from_estimator(clf)
    assert set(display.lines_) == {"loss"}
    x, y = drawn(display.lines_["loss"])
    np.testing.assert_array_equal(x, np.arange(1, clf.n_iter_ + 1))
    np.testing.assert_array_equal(y, clf.loss_curve_)
    assert display.ax_.get_xlabel() == "epoch"
    assert display.ax_.get_ylabel() == "loss"
    assert display.ax_.get_legend() is None
    assert display.figure_ is display.ax_.figure


def test_validation_scores_have_an_axis_of_their_own(plt, classifier):
    display = LossCurveDisplay.from_estimator(classifier, log_scale=True)
    score = display.lines_["validation score"]
    assert score.axes is display.score_ax_
    assert score.axes is not display.ax_
    np.testing.assert_array_equal(score.get_ydata(), classifier.validation_scores_)
    assert display.score_ax_.get_ylabel() == "validation accuracy"
    assert display.ax_.get_yscale() == "log"
    best = 1 + np.argmax(classifier.validation_scores_)
    assert display.best_epoch == best
    assert set(display.lines_["best epoch"].get_xdata()) == {best}
    texts = [text.get_text() for text in display.score_ax_.get_legend().get_texts()]
    assert texts == [
        "training loss", "validation loss", "validation accuracy", f"best epoch ({best})"
    ]  # fmt: skip


def test_everything_that_training_may_record(plt, data):
    clf = BackpropClassifier((8,), **SETTINGS).fit(*data)
    n = clf.n_iter_
    curves = np.random.default_rng(0).random((2, n))
    clf.validation_loss_curve_, clf.learning_rate_curve_ = map(list, curves)
    clf.best_iter_ = 3
    display = LossCurveDisplay.from_estimator(clf)
    np.testing.assert_array_equal(display.lines_["validation loss"].get_ydata(), curves[0])
    rate = display.lines_["learning rate"]
    np.testing.assert_array_equal(rate.get_ydata(), curves[1])
    assert rate.axes is display.learning_rate_ax_
    assert display.learning_rate_ax_.get_xlabel() == "epoch"
    assert set(display.lines_["best epoch"].get_xdata()) == {3}
    del clf.best_iter_
    assert LossCurveDisplay.from_estimator(clf).best_epoch == 1 + np.argmin(curves[0])


def test_given_axes_are_drawn_on(plt, classifier):
    figure, axes = plt.subplots(1, 2)
    display = LossCurveDisplay.from_estimator(classifier, ax=axes[1], color="red")
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert display.lines_["loss"].get_color() == "red"
    assert not axes[0].lines
    again = display.plot()
    assert again is display
    assert display.ax_ is not axes[1]


def test_epochs_that_nobody_measured_are_left_out(plt):
    nan = float("nan")
    curves = {"validation_scores": [nan, 0.5, nan, 0.75], "validation_loss_curve": [nan, 2, nan, 1]}
    lines = LossCurveDisplay([4.0, 3.0, 2.0, 1.0], **curves).plot().lines_
    assert lines["validation score"].get_xydata().tolist() == [[2, 0.5], [4, 0.75]]
    assert lines["validation loss"].get_xydata().tolist() == [[2, 2], [4, 1]]
    assert lines["loss"].get_xdata().tolist() == [1, 2, 3, 4]


def test_one_epoch_shows_as_a_point(plt, data):
    clf = BackpropClassifier((8,)).partial_fit(*data, classes=[0, 1, 2])
    assert LossCurveDisplay.from_estimator(clf).lines_["loss"].get_marker() == "o"


def test_regressors_inside_wrappers(plt):
    X, y = draw_regression(80, 3)
    reg = BackpropRegressor(hidden_layer_sizes=(4,), early_stopping=True, **SETTINGS)
    search = GridSearchCV(make_pipeline(StandardScaler(), reg), {"backpropregressor__alpha": [0.1]})
    whole = TransformedTargetRegressor(search, transformer=StandardScaler()).fit(X, y)
    display = LossCurveDisplay.from_estimator(whole)
    inner = whole.regressor_.best_estimator_[-1]
    np.testing.assert_array_equal(display.lines_["loss"].get_ydata(), inner.loss_curve_)
    assert display.score_ax_.get_ylabel() == "validation R2"
    assert WeightsDisplay.from_estimator(whole).coefs[0] is inner.coefs_[0]
    assert GradientFlowDisplay.from_estimator(whole, X, y).layer_names[0] == "hidden 1\n4 relu"


def test_lbfgs_has_no_curve(plt, data):
    clf = BackpropClassifier((8,), solver="lbfgs", tol=1.0).fit(*data)
    with pytest.raises(ValueError, match="solver='lbfgs' recorded no loss curve"):
        LossCurveDisplay.from_estimator(clf)


# ---------------------------------------------------------------------- GradientFlowDisplay


def test_gradient_flow_draws_what_backpropagation_computes(plt, data, classifier):
    display = GradientFlowDisplay.from_estimator(classifier, *data)
    result = loss_and_gradients(classifier, *data)
    assert display.layer_names == ["hidden 1\n8 relu", "hidden 2\n5 tanh", "output\n3 softmax"]
    assert len(display.axes_) == 3
    assert display.ax_ is display.axes_[0]
    by_unit, by_weight = display.axes_[1].lines[-2:]
    lines = {line.get_label(): line for line in display.axes_[1].lines}
    by_unit, by_weight = lines["units: RMS of dloss/dz"], lines["weights: |dloss/dW|"]
    for l, delta in enumerate(result.deltas):
        rms = 80 * np.sqrt((delta**2).mean(axis=0))
        gradient = np.abs(result.coef_grads[l])
        assert by_unit.get_xdata()[l] == pytest.approx(np.median(rms[rms > 0]))
        assert by_weight.get_xdata()[l] == pytest.approx(np.median(gradient[gradient > 0]))
    assert display.axes_[1].get_xscale() == "log"
    labels = [label.get_text() for label in display.axes_[0].get_yticklabels()]
    assert labels == display.layer_names
    top, bottom = display.ax_.get_ylim()[::-1]
    assert top < bottom  # the first layer is on top


def test_gradient_flow_shows_dead_units(plt, data):
    clf = BackpropClassifier((8, 4), **SETTINGS).fit(*data)
    for biases in clf.intercepts_[:2]:
        biases[:] = -1e3
    display = GradientFlowDisplay.from_estimator(clf, *data)
    np.testing.assert_array_equal(display.dead, [1.0, 1.0, 0.0])
    bars = display.axes_[2].patches[:3]
    np.testing.assert_allclose([bar.get_width() for bar in bars], [100, 100, 0])


def test_gradient_flow_divides_given_axes(plt, data, classifier):
    figure, axes = plt.subplots(2, 1)
    display = GradientFlowDisplay.from_estimator(classifier, *data, ax=axes[0])
    assert display.figure_ is figure
    lower = axes[1].get_position().y1
    assert all(panel.get_position().y0 > lower for panel in display.axes_)
    with pytest.raises(ValueError, match="must be a subplot"):
        display.plot(figure.add_axes([0, 0, 1, 1]))


# ---------------------------------------------------------------------------- WeightsDisplay


def test_weights_as_maps(plt, classifier):
    display = WeightsDisplay.from_estimator(classifier)
    assert len(display.images_) == len(display.axes_) == 3
    for image, weights in zip(display.images_, classifier.coefs_):
        np.testing.assert_array_equal(image.get_array(), weights)
        low, high = image.get_clim()
        assert low == -high == -np.abs(weights).max()  # 0 is the middle of the colours
    single = WeightsDisplay.from_estimator(classifier, layer=1, cmap="gray")
    np.testing.assert_array_equal(single.images_[0].get_array(), classifier.coefs_[1])
    assert single.images_[0].get_cmap().name == "gray"


def test_ticks_of_maps_are_whole_numbers(plt, classifier):
    display = WeightsDisplay([np.ones((2, 1))], layer_names=["output"]).plot()
    for axis in (display.ax_.xaxis, display.ax_.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_ticklocs() if low <= tick <= high]
        assert ticks
        assert all(tick == int(tick) for tick in ticks)


def test_weights_of_many_inputs_are_grouped(plt):
    weights = np.zeros((401, 2))
    weights[3, 0], weights[4, 0], weights[400, 1] = 1.0, -2.0, -3.0
    display = WeightsDisplay([weights, np.eye(2)], layer_names=["hidden 1", "output"]).plot()
    drawn, plain = (image.get_array() for image in display.images_)
    assert drawn.shape == (134, 2)  # of three inputs each
    assert [drawn[1, 0], drawn[133, 1], np.abs(drawn).sum()] == [-2.0, -3.0, 5.0]
    np.testing.assert_array_equal(plain, np.eye(2))
    assert "each 3 inputs" in display.ax_.get_title()
    assert display.images_[0].get_extent()[2] >= 400  # ticks count inputs


def test_legends_cover_no_curve(plt, classifier, data):
    flat = BackpropClassifier((8,), early_stopping=True, **SETTINGS).fit(*data)
    for display in (
        LossCurveDisplay.from_estimator(classifier),
        LossCurveDisplay.from_estimator(flat),
        SearchCurvesDisplay([[3, 2, 1]], names=["alpha=1"], best_index=0).plot(),
    ):
        display.figure_.draw_without_rendering()
        axes = [display.ax_, getattr(display, "score_ax_", None) or display.ax_]
        legend = next(ax.get_legend() for ax in axes if ax.get_legend()).get_window_extent()
        assert legend.y0 >= display.ax_.get_window_extent().y1
        title = display.ax_.title.get_window_extent()
        assert not title.width or title.y0 >= legend.y1 - 1


def test_weights_as_images(plt, classifier):
    display = WeightsDisplay.from_estimator(classifier, image_shape=(2, 3), max_units=4)
    norms = np.linalg.norm(classifier.coefs_[0], axis=0)
    assert set(display.units_) == set(np.argsort(-norms)[:4])
    for image, unit in zip(display.images_, display.units_):
        np.testing.assert_array_equal(image.get_array().ravel(), classifier.coefs_[0][:, unit])


def test_weights_as_histograms(plt, classifier):
    display = WeightsDisplay.from_estimator(classifier, kind="histogram", bins=7)
    assert display.images_ == []
    for panel, weights in zip(display.axes_, classifier.coefs_):
        assert sum(bar.get_height() for bar in panel.patches) == weights.size
        assert len(panel.patches) == 7


def test_names_of_features_are_on_the_map(plt, data):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(data[0], columns=list("abcdef"))
    clf = BackpropClassifier((8,), **SETTINGS).fit(X, data[1])
    display = WeightsDisplay.from_estimator(clf)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == list("abcdef")


@pytest.mark.parametrize("names", [5, "abcdef", list("abc"), np.zeros((6, 2))], ids=str)
def test_edited_names_of_features_that_are_none(plt, data, names):
    clf = BackpropClassifier((8,), **SETTINGS).fit(*data)
    clf.feature_names_in_ = names
    with pytest.raises(ValueError, match=r"feature_names_in_ must be an array of 6 names"):
        WeightsDisplay.from_estimator(clf)


def test_bad_requests(plt, classifier):
    with pytest.raises(ValueError, match="layer must be from 0 to 2"):
        WeightsDisplay.from_estimator(classifier, layer=3)
    with pytest.raises(ValueError, match=r"height \* width = 6"):
        WeightsDisplay.from_estimator(classifier, image_shape=(2, 2))
    with pytest.raises(ValueError, match="kind must be one of 'map', 'image', 'histogram'"):
        WeightsDisplay.from_estimator(classifier, kind="pie")
    with pytest.raises(TypeError, match="Got StandardScaler"):
        WeightsDisplay.from_estimator(StandardScaler().fit([[0.0], [1.0]]))


def test_absent_matplotlib_says_what_to_install(monkeypatch, classifier):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install \"fastbp\[plot\]\""):
        LossCurveDisplay.from_estimator(classifier)


def test_examples_of_the_documentation(plt, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    for kind in (LossCurveDisplay, GradientFlowDisplay, WeightsDisplay):
        runner = doctest.DocTestRunner()
        for test in doctest.DocTestFinder(recurse=False).find(kind, kind.__name__):
            runner.run(test)
        assert runner.tries
        assert not runner.failures
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(fastbp.BackpropClassifier.summary, "summary"):
        runner.run(test)
    assert runner.tries
    assert not runner.failures


def test_large_batches_are_thinned(plt):
    X = np.random.RandomState(0).randn(5000, 3)
    reg = BackpropRegressor(scale_targets=True, tol=1e3, n_iter_no_change=1).fit(X, 1e6 * X[:, 0])
    display = GradientFlowDisplay.from_estimator(reg, X, 1e6 * X[:, 0])
    assert len(display.activations[0]) == 2000
    assert max(np.abs(gradient).max() for gradient in display.unit_gradients) < 10
    few = GradientFlowDisplay.from_estimator(reg, X, 1e6 * X[:, 0], max_samples=70)
    assert len(few.activations[0]) == 70


def test_curves_that_begin_later_end_together(plt):
    X = np.random.RandomState(0).randn(60, 3)
    reg = BackpropRegressor(random_state=0)
    for epoch in range(5):
        reg.partial_fit(X, X[:, 0], **({"X_val": X, "y_val": X[:, 0]} if epoch > 1 else {}))
    display = LossCurveDisplay.from_estimator(reg)
    assert list(display.lines_["loss"].get_xdata()) == [1, 2, 3, 4, 5]
    assert list(display.lines_["validation loss"].get_xdata()) == [3, 4, 5]
    assert set(display.lines_["best epoch"].get_xdata()) == {2 + reg.best_iter_}


# ------------------------------------------------------------------------ SearchCurvesDisplay


@pytest.fixture(scope="module")
def search():
    """A halving of four candidates, with a validation set."""
    X, y = draw_classes(120, 4, 3)
    net = BackpropClassifier((5,), max_iter=8, early_stopping=True, tol=0.0, random_state=0)
    params = {"learning_rate_init": [1e-4, 1e-3, 1e-2, 3e-2]}
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        return BackpropSearchCV(net, params, strategy="halving", factor=2, cv=2).fit(X, y)


@pytest.mark.usefixtures("plt")
def test_curves_of_a_search(search):
    display = SearchCurvesDisplay.from_estimator(search)
    assert [len(line.get_ydata()) for line in display.lines_] == [
        len(folds[0]["loss"]) for folds in search.candidate_curves_
    ]
    best = search.best_index_
    folds = search.candidate_curves_[best]
    np.testing.assert_allclose(
        display.lines_[best].get_ydata(), np.mean([fold["loss"] for fold in folds], axis=0)
    )
    styles = {line.get_linestyle() for i, line in enumerate(display.lines_) if i != best}
    assert styles == {"--"}
    assert display.lines_[best].get_linestyle() == "-"
    assert display.lines_[best].get_linewidth() > 1
    assert display.ax_.get_ylabel() == "training loss"
    assert "learning_rate_init" in display.ax_.get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("curve", ["validation_loss", "validation_score"])
def test_other_curves_of_a_search(search, curve, plt):
    _, ax = plt.subplots()
    display = SearchCurvesDisplay.from_estimator(
        search, curve=curve, ax=ax, log_scale=True, color="red"
    )
    assert display.ax_ is ax
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == curve.replace("_", " ")
    assert {line.get_color() for line in display.lines_} == {"red"}


@pytest.mark.usefixtures("plt")
def test_curves_that_are_not_there(search):
    with pytest.raises(ValueError, match="curve must be one of"):
        SearchCurvesDisplay.from_estimator(search, curve="accuracy")
    with pytest.raises(TypeError, match="fitted BackpropSearchCV"):
        SearchCurvesDisplay.from_estimator(BackpropSearchCV(BackpropClassifier(), {}))
    X, y = draw_classes(40, 4, 2)
    net = BackpropClassifier((3,), solver="lbfgs", tol=0.1, random_state=0)
    bare = BackpropSearchCV(net, {"alpha": [1.0]}, cv=2).fit(X, y)
    with pytest.raises(ValueError, match="No candidate recorded a training loss"):
        SearchCurvesDisplay.from_estimator(bare)
    assert SearchCurvesDisplay([[1.0]]).plot().lines_[0].get_marker() == "o"
