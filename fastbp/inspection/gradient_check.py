"""Gradients against central differences of the loss: the classic check of backpropagation.

The gradient is the engine's, the one that training steps along; the differences are those of the
plain forward pass in `backpropagation`.
"""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils import check_random_state

from fastbp.engine.network import flatten, views
from fastbp.inspection.backpropagation import backpropagate, forward, penalized_loss
from fastbp.inspection.batch import Batch, Network, evaluate_loss, open_wrappers
from fastbp.tables import format_number, format_table, html_table

# Steps of the differences, relative to the weight or 1. The error of the first is about 1e-10 of
# the loss; the others serve where a kink, such as relu's at 0, lies within the first.
STEPS = (1e-5, 1e-6, 1e-7)
# Gradients below this share of the loss count as this large: rounding of the loss hides them.
SMALLEST = 1e-5
ROWS_PER_BLOCK = 1024  # of the engine's work memory

_COLUMNS = (
    "layer", "array", "parameters", "checked", "largest gradient", "abs. error", "rel. error",
    "chain rule",
)  # fmt: skip


@dataclass(frozen=True)
class GradientCheck:
    """Result of `check_gradients`; prints as a table, also in notebooks.

    Attributes
    ----------
    rows : list of dict
        For each layer its "weights" and its "biases", with the keys "layer" (from 0, as in
        `coefs_`), "array", "n_params", "n_checked", "largest_gradient", "max_abs_error" and
        "max_rel_error" (engine against central differences, relative to the largest gradient of
        the array, or to 1e-5 times the loss if that is more) and "chain_rule_error" (engine against
        `loss_and_gradients`, all parameters, relative in the same way).
        ``pandas.DataFrame(check.rows)`` makes a frame of it.
    loss : float
        Loss of the batch.
    tolerance : float
        Relative error up to which `ok` is True.
    """

    __module__ = "fastbp.inspection"

    rows: list
    loss: float
    tolerance: float

    @property
    def max_rel_error(self):
        """Largest relative error of all arrays, of either kind."""
        errors = [[row["max_rel_error"], row["chain_rule_error"]] for row in self.rows]
        return float(np.max(errors))

    @property
    def ok(self):
        """Whether every relative error is within the tolerance."""
        return bool(self.max_rel_error <= self.tolerance)

    def _cells(self):
        return [
            (
                str(row["layer"]),
                row["array"],
                f"{row['n_params']:,}",
                str(row["n_checked"]),
                *map(format_number, list(row.values())[4:]),
            )
            for row in self.rows
        ]

    def _verdict(self):
        verdict = "Gradients are right" if self.ok else "Gradients are NOT right"
        return (
            f"{verdict}: largest relative error {self.max_rel_error:.1e}, tolerance "
            f"{self.tolerance:.0e}"
        )

    def __str__(self):
        return f"{format_table(_COLUMNS, self._cells(), '><>>>>>>')}\n{self._verdict()}"

    __repr__ = __str__

    def _repr_html_(self):
        table = html_table(_COLUMNS, self._cells(), "><>>>>>>")
        return f"<div>{table}<div><b>{self._verdict()}</b></div></div>"


def check_gradients(
    estimator, X, y, sample_weight=None, *, n_checks=20, tolerance=1e-5, random_state=0
):
    """Compare the engine's gradient with central differences of the loss.

    For parameters p of each layer, chosen at random, with step h::

        dloss / dp  ~  (loss(p + h) - loss(p - h)) / (2 h)

    The engine computes in float64 here, whatever the estimator's `dtype`.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Fitted; or a pipeline, search or TransformedTargetRegressor that ends in one.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        A batch, as `estimator` takes it; some hundred samples are enough.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        As for `fit`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each sample.
    n_checks : int or None, default=20
        Parameters to check in each array of weights or biases; None for all.  Each costs two
        forward passes or more.
    tolerance : float, default=1e-5
        Relative error up to which the result is `ok`.
    random_state : int, RandomState instance or None, default=0
        Chooses the parameters.

    Returns
    -------
    check : GradientCheck

    Raises
    ------
    ValueError, TypeError
        For bad data, as in `fit`, or an estimator that holds no network of fastbp.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    Where an activation has a kink between ``p - h`` and ``p + h`` the difference quotient is that
    of neither side. Such parameters are tried again with smaller steps.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.inspection import check_gradients
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = BackpropClassifier((16,), "tanh", max_iter=5, tol=1.0, n_iter_no_change=1)
    >>> check_gradients(clf.fit(X, y), X, y).ok
    True
    """
    estimator, X, y = open_wrappers(estimator, X, y)
    network = Network.of(estimator)
    batch = Batch.of(network, X, y, sample_weight)
    result = backpropagate(network, batch)
    engine_grads = _engine_gradients(network, batch)
    random_state = check_random_state(random_state)
    rows = []
    for l in range(len(network.coefs)):
        for which, name, by_hand in (
            (0, "weights", result.coef_grads[l]),
            (1, "biases", result.intercept_grads[l]),
        ):
            gradient = engine_grads[which][l].ravel()
            n_checked = gradient.size if n_checks is None else min(n_checks, gradient.size)
            chosen = np.sort(random_state.choice(gradient.size, n_checked, replace=False))
            scale = max(np.abs(gradient).max(), SMALLEST * abs(result.loss))
            errors = [
                _error(network, batch, (which, l, index), gradient[index], tolerance * scale)
                for index in chosen
            ]
            rows.append(
                {
                    "layer": l,
                    "array": name,
                    "n_params": gradient.size,
                    "n_checked": n_checked,
                    "largest_gradient": float(np.abs(gradient).max()),
                    "max_abs_error": float(np.max(errors)),
                    "max_rel_error": float(np.max(errors) / scale),
                    "chain_rule_error": float(np.abs(gradient - by_hand.ravel()).max() / scale),
                }
            )
    return GradientCheck(rows, result.loss, tolerance)


def _engine_gradients(network, batch):
    """Gradients of weights and of biases by the engine that trains, in float64."""
    problem, params = batch.problem, flatten(network.coefs, network.intercepts, np.float64)
    session = problem.open_session(params, min(ROWS_PER_BLOCK, len(batch.targets)))
    gradient = np.empty_like(params)
    try:
        session.loss_and_gradient(
            params,
            batch.X,
            batch.targets,
            problem.sample_weight,
            alpha=batch.penalty * float(batch.weights.sum()),
            gradient=gradient,
            mean_gradient=batch.loss.output_mean,
        )
    finally:
        session.close()
    return views(gradient, problem.layer_sizes)


def _error(network, batch, place, gradient, enough):
    """Smallest difference of a gradient from a difference quotient; stops at `enough`."""
    best = np.inf
    for step in STEPS:
        best = min(best, abs(_difference_quotient(network, batch, place, step) - gradient))
        if best <= enough:
            break
    return best


def _difference_quotient(network, batch, place, step):
    """(loss(p + h) - loss(p - h)) / (2 h) for the parameter p at a place."""
    which, l, index = place
    at = [network.coefs, network.intercepts][which][l].flat[index]
    above, below = at + step * max(1.0, abs(at)), at - step * max(1.0, abs(at))
    losses = [_loss_at(network, batch, place, value) for value in (above, below)]
    return (losses[0] - losses[1]) / (above - below)


def _loss_at(network, batch, place, value):
    """Loss of the batch with one parameter changed."""
    which, l, index = place
    arrays = [list(network.coefs), list(network.intercepts)]
    arrays[which][l] = arrays[which][l].copy()
    arrays[which][l].flat[index] = value
    changed = replace(network, coefs=arrays[0], intercepts=arrays[1])
    scores = forward(changed, batch.X)[0][-1]
    return penalized_loss(changed, batch, evaluate_loss(batch.loss, batch.targets, scores)[0])[0]
