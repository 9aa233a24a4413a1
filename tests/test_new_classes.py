"""partial_fit with new_classes="grow": classes that come later."""

import numpy as np
import pytest

from fastbp import BackpropClassifier
from fastbp.engine import network
from fastbp.optimizers import OPTIMIZERS
from fastbp.training.growing import grow

RNG = np.random.RandomState(0)
X = RNG.normal(size=(60, 4))
LABELS = RNG.randint(0, 5, 60)


def make(**settings):
    settings = {"hidden_layer_sizes": (5,), "batch_size": 10, "random_state": 0} | settings
    return BackpropClassifier(new_classes="grow", **settings)


def fitted(classes, n_calls=3, **settings):
    """Fit on rows of some classes."""
    rows = np.isin(LABELS, classes)
    net = make(**settings)
    for _ in range(n_calls):
        net.partial_fit(X[rows], LABELS[rows])
    return net


def odds(net, classes):
    """Differences of the logarithms of the probabilities of some classes."""
    columns = np.searchsorted(net.classes_, classes)
    log_p = net.predict_log_proba(X)[:, columns]
    return log_p - log_p[:, :1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 3], [0, 1, 2, 3]),
        ([1, 3], [1, 3, 4]),
        ([0, 2, 4], [0, 1, 2, 3, 4]),
        ([1, 2], [0, 1, 2]),
    ],
)
def test_odds_of_old_classes_are_unchanged(before, after):
    net = fitted(before, dtype="float64")
    old = odds(net, before)
    net._grow(np.array(after))
    assert net.classes_.tolist() == after
    assert net.predict_proba(X).shape == (60, len(after))
    np.testing.assert_allclose(odds(net, before), old, rtol=1e-10, atol=1e-12)
    new = ~np.isin(after, before)
    share = net.predict_proba(X)[:, new]
    assert (share > 0).all()
    assert (share.sum(axis=1) <= 1 / (1 + 10 * len(before)) + 1e-12).all()


@pytest.mark.parametrize("new", [[0, 2], [2, 4], [0, 2, 4]])
def test_one_class_model_grows(new):
    net = make(dtype="float64", random_state=0)
    with pytest.warns(RuntimeWarning, match="only one class"):
        net.partial_fit(X, np.full(60, 2))
    z = net._raw_scores(X)[0][:, 0]
    net._grow(np.array(new))
    p = net.predict_proba(X)
    np.testing.assert_allclose(p[:, new.index(2)], 1 / (1 + np.exp(z)), rtol=1e-10)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


@pytest.mark.parametrize("solver", ["adam", "adamw", "rmsprop", "lion", "sgd"])
def test_optimizer_grows_with_the_network(solver):
    """The slots of what is old are what they were; binary ones as a softmax would have them."""
    net = fitted([1, 3], solver=solver, ema_decay=0.5)
    before = net._optimizer
    net._grow(np.array([0, 1, 3]))
    after, n = net._optimizer, 4 * 5 + 5
    assert after["slots"].shape == (len(before["slots"]), n + 6 * 3)
    assert after["t"] == before["t"]
    for k, (old, new) in enumerate(zip(before["slots"], after["slots"], strict=True)):
        np.testing.assert_array_equal(new[:n], old[:n])
        columns = new[n:].reshape(6, 3)
        is_square = k in OPTIMIZERS[solver].squares
        np.testing.assert_array_equal(columns[:, 2], old[n:])
        np.testing.assert_array_equal(columns[:, 1], old[n:] * (1 if is_square else -1))
        np.testing.assert_array_equal(columns[:, 0], old[n:] * is_square)
    np.testing.assert_array_equal(after["weights"][n:].reshape(6, 3)[:, 2], before["weights"][n:])
    net.partial_fit(X, LABELS * 0)  # weights behind the average are believed
    assert np.abs(net._optimizer["weights"]).max() > 0


def test_members_grow():
    sizes, n_members = (3, 4, 2), 3
    params = RNG.normal(size=network.count_params((3, 4, 1), n_members))
    growth = grow(np.array([1, 2]), np.array([0, 1, 2]))
    wide = growth.widen(params, (3, 4, 1), n_members)
    sizes = (3, 4, 3)
    assert len(wide) == network.count_params(sizes, n_members)
    old = network.member_views(params, (3, 4, 1), n_members)
    new = network.member_views(wide, sizes, n_members)
    np.testing.assert_array_equal(new[2], old[2])
    np.testing.assert_array_equal(new[3][:, :, 2], old[3][:, :, 0])
    np.testing.assert_array_equal(new[3][:, :, 1], 0.0)
    np.testing.assert_array_equal(new[4][:, 2], old[4][:, 0])
    np.testing.assert_array_equal(new[4][:, 1], 0.0)
    slots = growth.widen_slots(params[np.newaxis], OPTIMIZERS["sgd"], (3, 4, 1), n_members)
    assert slots.shape == (1, len(wide))


def test_partial_fit_learns_classes_as_they_come():
    centers = np.array([[0.0, 0], [4, 0], [0, 4]])
    y = np.repeat([0, 1, 2], 20)
    points = centers[y] + 0.3 * RNG.normal(size=(60, 2))
    names = np.array(["b", "c", "a"])[y]
    net = make(learning_rate_init=0.01, batch_size=5)
    with pytest.warns(RuntimeWarning):
        net.partial_fit(points[:20], names[:20])
    for part in (points[:40], names[:40]), (points, names):
        for _ in range(40):
            net.partial_fit(*part)
    assert net.classes_.tolist() == ["a", "b", "c"]
    assert net.score(points, names) == 1.0
    assert len(net.loss_curve_) == 81


def test_classes_may_be_named():
    net = make().partial_fit(X[:10], LABELS[:10], classes=[0, 1, 2, 3, 4, 7])
    assert net.classes_.tolist() == [0, 1, 2, 3, 4, 7]
    net.partial_fit(X, LABELS, classes=[9])
    assert net.classes_.tolist() == [0, 1, 2, 3, 4, 7, 9]


def test_errors():
    net = fitted([1, 3])
    before = dict(vars(net))
    with pytest.raises(ValueError, match="one type, text or numbers"):
        net.partial_fit(X, LABELS.astype(str))
    with pytest.raises(ValueError, match="is for one label per row"):
        net.partial_fit(X, np.eye(2, dtype=int)[LABELS % 2])
    with pytest.raises(ValueError, match="NaN"):
        net.partial_fit(X * np.nan, LABELS)
    with pytest.raises(ValueError, match="at least one class"):
        net.partial_fit(X, LABELS, classes=[])
    with pytest.raises(ValueError, match="tells them all apart"):  # 2**53 and 2**53 + 1
        make().partial_fit(X, LABELS % 2 + 2**53).partial_fit(X, LABELS / 1.0)
    assert vars(net) == before
    net.classes_ = None
    with pytest.raises(ValueError, match="attribute classes_ must be"):
        net.partial_fit(X, LABELS)
    with pytest.raises(ValueError, match="new_classes"):
        make().set_params(new_classes="groww").fit(X, LABELS)
    plain = BackpropClassifier((5,), random_state=0).partial_fit(X, LABELS % 2, classes=[0, 1])
    with pytest.raises(ValueError, match="classes not in"):
        plain.partial_fit(X, LABELS)
    with pytest.raises(ValueError, match="classes must be passed"):
        BackpropClassifier().partial_fit(X, LABELS)


def test_validation_scores_begin_anew():
    net = make()
    for y in (LABELS % 2, LABELS % 2, LABELS):
        net.partial_fit(X, y, X_val=X, y_val=y)
    assert len(net.validation_scores_) == 1
    assert len(net.loss_curve_) == 3


@pytest.mark.parametrize(
    ("class_weight", "all_of_them"),
    [({0: 1, 1: 2}, [1, 2, 1]), ({0: 1, 1: 2, 2: 9}, [1, 2, 9])],
)
def test_class_weights_grow_with_the_classes(class_weight, all_of_them):
    net = make(class_weight=class_weight).partial_fit(X, LABELS % 2)
    twin = make(class_weight=class_weight).partial_fit(X, LABELS % 2)
    net.partial_fit(X, LABELS % 3)
    weights = np.array(all_of_them)[LABELS % 3]
    twin.set_params(class_weight=None).partial_fit(X, LABELS % 3, sample_weight=weights)
    assert (net.coefs_[-1] == twin.coefs_[-1]).all()
