"""Summary and notebook display: what they say about a network, fitted or not; they never fail."""

import re

import numpy as np
import pytest
from problems import draw_classes, draw_counts
from sklearn import config_context
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier, BackpropRegressor, BackpropSearchCV, Loss
from fastbp.inspection.architecture import draw_network, layers_of
from fastbp.losses import Gamma, Quantile


@pytest.fixture(scope="module")
def classifier():
    X, y = draw_classes(60, 5, 3)
    return BackpropClassifier((8, 4), ["relu", "tanh"], solver="lbfgs", max_fun=50, tol=1.0).fit(
        X, y
    )


def test_layers_count_the_parameters(classifier):
    layers = layers_of(classifier)
    assert [layer.name for layer in layers] == ["input", "hidden 1", "hidden 2", "output"]
    assert [layer.activation for layer in layers] == ["", "relu", "tanh", "softmax"]
    counts = [w.size + b.size for w, b in zip(classifier.coefs_, classifier.intercepts_)]
    assert [layer.n_params for layer in layers] == [0, *counts]


def test_summary_of_a_fitted_network(classifier):
    lines = classifier.summary().splitlines()
    assert lines[0] == "BackpropClassifier, 5-8-4-3: 99 parameters, float32, 0.387 KiB"
    assert lines[1].split() == ["layer", "units", "activation", "weights", "biases", "parameters"]
    assert re.fullmatch(r"hidden 1 +8  relu +\(5, 8\) +\(8,\) +48", lines[4])
    assert re.fullmatch(r"output +3  softmax +\(4, 3\) +\(3,\) +15", lines[6])
    assert "solver lbfgs" in lines[-1]
    assert repr(classifier.summary()) == str(classifier.summary())


def test_summary_before_fit_says_what_is_known():
    summary = BackpropClassifier((8, 4)).summary()
    assert "?-8-4-?, not fitted" in summary
    assert re.search(r"hidden 2 +4  relu +\(8, 4\) +\(4,\) +36", summary)
    assert re.search(r"output +\?  exp", BackpropRegressor("poisson").summary())
    assert re.search(r"output +\?  exp", BackpropRegressor(Gamma()).summary())
    several = BackpropRegressor(Quantile([0.1, 0.9])).summary()
    assert re.search(r"output +\?  cumulative_softplus", several)
    assert re.search(r"output +\?  identity", BackpropRegressor(Quantile(0.9)).summary())
    assert re.search(r"output +\?  identity", BackpropRegressor("unknown").summary())
    assert re.search(r"output +\?  logistic", BackpropRegressor(Loss(abs, link="logit")).summary())
    with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0"):
        BackpropClassifier((0,)).summary()


def test_summary_says_how_far_training_came():
    X, y = draw_counts(40, 3)
    reg = BackpropRegressor("poisson", (4,), max_iter=3, tol=10.0, n_iter_no_change=1).fit(X, y)
    last = reg.summary().splitlines()[-1]
    assert last == f"loss poisson, solver adam, loss {reg.loss_:.4g} after {reg.n_iter_} epochs"


def test_drawing_has_a_circle_for_each_unit_and_a_line_for_each_weight(classifier):
    html = draw_network(classifier)
    assert len(re.findall(r'r="7"', html)) == 5 + 6 + 4 + 3  # of 8 units the middle is left out
    assert html.count("<line") == 5 * 6 + 6 * 4 + 4 * 3
    assert "48 parameters" in html
    assert ">softmax<" in html


def test_drawing_escapes_names():
    html = draw_network(BackpropClassifier((3,), activation=lambda z: z))
    assert "&lt;lambda&gt;" in html
    assert "<lambda>" not in html


@pytest.mark.parametrize(
    "parameters",
    [
        {"hidden_layer_sizes": "wrong"},
        {"hidden_layer_sizes": (3, -1)},
        {"activation": "unknown"},
        {"activation": ["relu", "tanh"]},
        {"activation": None},
        {"loss": None},
        {"hidden_layer_sizes": (2,) * 30},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_display_never_fails(kind, parameters):
    html = kind(**parameters)._repr_html_()
    assert kind.__name__ in html


def test_display_is_scikit_learns_with_the_drawing(classifier):
    html = classifier._repr_html_()
    assert "sk-top-container" in html
    assert html.count("<svg") >= 1
    assert "5-8-4-3: 99 parameters" in html
    assert classifier._repr_mimebundle_()["text/html"].count("fastbp-network") == 1
    with config_context(display="text"):
        assert not hasattr(classifier, "_repr_html_")


def test_display_links_to_the_documentation_of_fastbp():
    link = BackpropRegressor()._get_doc_link()
    assert link.startswith("https://")
    assert "fastbp" in link
    assert "scikit-learn" not in link
    assert link.endswith("fastbp.BackpropRegressor.html")
    assert link in BackpropRegressor()._repr_html_()


def test_pipelines_and_searches_draw_the_network(classifier):
    pipeline = make_pipeline(StandardScaler(), BackpropClassifier((3,)))
    grid = {"backpropclassifier__alpha": np.logspace(-4, 0, 3)}
    searches = GridSearchCV(pipeline, grid), BackpropSearchCV(pipeline, grid)
    target = TransformedTargetRegressor(BackpropRegressor(hidden_layer_sizes=(3,)))
    for estimator in (pipeline, *searches, target):
        html = estimator._repr_html_()
        assert "sk-top-container" in html
        assert html.count("fastbp-network") == 1
    fitted = make_pipeline("passthrough", classifier)
    assert "5-8-4-3: 99 parameters" in fitted._repr_html_()
