"""Forward pass, loss and chain rule of a batch, as a textbook writes them, every step kept.

Written for reading: one line of NumPy for each formula, in float64, nothing fused or reused.  The
engines compute the same in another order of operations (tests compare them).
"""

from dataclasses import dataclass

import numpy as np
import scipy.special

from fastbp.inspection.batch import (
    Batch,
    Network,
    evaluate_activation,
    evaluate_loss,
    open_wrappers,
)


@dataclass(frozen=True)
class Backpropagation:
    """Everything that backpropagation computes for a batch.

    Layers are numbered as in `coefs_`: layer l has the weights ``coefs_[l]`` of shape
    ``(n_in, n_out)``; the last layer is the output.  All arrays are float64.

    Attributes
    ----------
    loss : float
        Weighted mean of `sample_losses`, plus `penalty`.
    penalty : float
        L2 penalty, as an epoch over these samples adds it: ``n_steps alpha |W|^2 / (2 sum(w))``.
    sample_losses : ndarray of shape (n_samples,)
        Loss of each sample, unweighted.
    pre_activations : list of ndarray of shape (n_samples, n_out)
        ``z_l = a_l @ W_l + b_l`` for each layer; the last holds the raw scores.
    activations : list of ndarray
        ``a_0 = X``, then ``a_{l+1} = f_l(z_l)``, each (n_samples, n_units); CSR where X is sparse.
        The last holds the predictions: raw scores after the output transform (probabilities for a
        classifier; in the units of y, also with `scale_targets`).
    slopes : list of ndarray of shape (n_samples, n_out)
        ``f_l'(z_l)`` for each hidden layer.
    deltas : list of ndarray of shape (n_samples, n_out)
        ``delta_l = dloss / dz_l`` for each layer, with the weight of the sample and the division by
        the sum of weights in it.
    coef_grads : list of ndarray of shape (n_in, n_out)
        ``dloss / dW_l``, penalty included.
    intercept_grads : list of ndarray of shape (n_out,)
        ``dloss / db_l``.

    See Also
    --------
    loss_and_gradients : Computes it.
    """

    __module__ = "fastbp.inspection"

    loss: float
    penalty: float
    sample_losses: np.ndarray
    pre_activations: list
    activations: list
    slopes: list
    deltas: list
    coef_grads: list
    intercept_grads: list


def loss_and_gradients(estimator, X, y, sample_weight=None):
    """Compute loss, activations, deltas and gradients of a batch, layer by layer.

    Forward, for each layer l::

        z_l = a_l @ W_l + b_l        a_{l+1} = f_l(z_l)        a_0 = X

    Loss of the raw scores s = z_L and the targets, as `fit` minimised it: targets scaled with
    `scale_targets`, w the sample weights times those of the classes, and the penalty of n_steps
    minibatches (1 for 'lbfgs')::

        loss = sum_i w_i loss_i / sum_i w_i  +  n_steps alpha / (2 sum_i w_i) sum_l |W_l|^2

    Backward, from the last layer to the first (Rumelhart, Hinton & Williams 1986)::

        delta_L = w / sum(w) * dloss_i / ds
        dloss / dW_l = a_l.T @ delta_l + n_steps alpha W_l / sum(w)    dloss / db_l = sum_i delta_l
        delta_{l-1} = (delta_l @ W_l.T) * f_{l-1}'(z_{l-1})

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Fitted; or a pipeline, search or TransformedTargetRegressor that ends in one.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        As `estimator` takes it.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        As for `fit`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each sample.

    Returns
    -------
    result : Backpropagation

    Raises
    ------
    ValueError, TypeError
        For bad data, as in `fit`, or an estimator that holds no network of fastbp.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    The gradients are those of `loss`.  For squared error with several outputs it is the mean over
    the outputs, while 'sgd' and 'adam' step along the gradient of the sum, as in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.inspection import loss_and_gradients
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = BackpropClassifier((16,), solver="lbfgs", tol=1e-3, random_state=0).fit(X, y)
    >>> batch = loss_and_gradients(clf, X, y)
    >>> [a.shape for a in batch.activations]
    [(150, 4), (150, 16), (150, 3)]
    >>> [delta.shape for delta in batch.deltas]
    [(150, 16), (150, 3)]
    >>> largest = max(np.abs(gradient).max() for gradient in batch.coef_grads)
    >>> print(f"{largest:.2f}")  # training has converged
    0.00
    """
    estimator, X, y = open_wrappers(estimator, X, y)
    network = Network.of(estimator)
    batch = Batch.of(network, X, y, sample_weight)
    return backpropagate(network, batch)


def forward(network, X):
    """Return pre-activations of each layer, activations (X first), slopes of the hidden layers."""
    pre_activations, activations, slopes = [], [X], []
    for l, (W, b) in enumerate(zip(network.coefs, network.intercepts, strict=True)):
        pre_activations.append(activations[-1] @ W + b)
        if l < len(network.activations):
            a, slope = evaluate_activation(network.activations[l], pre_activations[-1])
            activations.append(a)
            slopes.append(slope)
    return pre_activations, activations, slopes


def penalized_loss(network, batch, sample_losses):
    """Return the weighted mean of the losses plus the L2 penalty, and that penalty."""
    weights = batch.weights
    penalty = batch.penalty / 2 * sum((W**2).sum() for W in network.coefs)
    return float(weights @ sample_losses / weights.sum() + penalty), float(penalty)


def backpropagate(network, batch):
    """Compute a `Backpropagation`: the formulas of `loss_and_gradients`."""
    with np.errstate(over="ignore", invalid="ignore"):  # of a diverged network: to be looked at
        pre_activations, activations, slopes = forward(network, batch.X)
        sample_losses, gradient = evaluate_loss(batch.loss, batch.targets, pre_activations[-1])
        loss, penalty = penalized_loss(network, batch, sample_losses)
        deltas, coef_grads, intercept_grads = [], [], []
        total = batch.weights.sum()
        delta = gradient * batch.weights[:, np.newaxis] / total
        for l in reversed(range(len(network.coefs))):
            W = network.coefs[l]
            deltas.insert(0, delta)
            coef_grads.insert(0, activations[l].T @ delta + batch.penalty * W)
            intercept_grads.insert(0, delta.sum(axis=0))
            if l:
                delta = (delta @ W.T) * slopes[l - 1]
    predictions = pre_activations[-1].copy()
    network.engine.transform_into(batch.loss.output, predictions)
    if batch.problem.target_units:
        mean, scale = batch.problem.target_units
        predictions = predictions * scale + mean
    return Backpropagation(
        loss=loss,
        penalty=penalty,
        sample_losses=sample_losses,
        pre_activations=pre_activations,
        activations=[*activations, predictions],
        slopes=slopes,
        deltas=deltas,
        coef_grads=coef_grads,
        intercept_grads=intercept_grads,
    )


def input_gradients(estimator, X):
    """Compute how the network's output changes with each feature of each sample (saliency).

    The chain rule, carried on to the input: ``ds / dx`` where s is the prediction of a regressor,
    in the units of y (with a log link its logarithm); the log-odds of a binary or multilabel
    classifier; the logits, scores before the softmax, of a multiclass one.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Fitted; or a pipeline, search or TransformedTargetRegressor that ends in one.  Gradients are
        those of the network inside, by the features that it sees: in a pipeline, those after the
        steps before it.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        As `estimator` takes it.

    Returns
    -------
    gradients : ndarray of shape (n_samples, n_features) or (n_samples, n_features, n_outputs)
        float64; the last axis is there with several outputs, for a multiclass classifier in the
        order of `classes_`.

    Raises
    ------
    ValueError, TypeError
        For bad data, as in `predict`, or an estimator that holds no network of fastbp.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    References
    ----------
    Simonyan, Vedaldi & Zisserman (2014), Deep inside convolutional networks: visualising image
    classification models and saliency maps.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.inspection import input_gradients
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = BackpropClassifier((16,), solver="lbfgs", random_state=0).fit(X, y)
    >>> input_gradients(clf, X).shape
    (150, 4, 3)
    """
    estimator, X, _ = open_wrappers(estimator, X)
    network = Network.of(estimator)
    X = network.features(X)
    with np.errstate(over="ignore", invalid="ignore"):
        pre_activations, _, slopes = forward(network, X)
        gradients = _output_slopes(estimator, pre_activations[-1]) @ network.coefs[-1].T
        for W, slope in zip(reversed(network.coefs[:-1]), reversed(slopes), strict=True):
            gradients = (gradients * slope[:, np.newaxis, :]) @ W.T
    gradients = np.ascontiguousarray(np.moveaxis(gradients, 1, 2))
    return gradients[:, :, 0] if gradients.shape[2] == 1 else gradients


def _output_slopes(estimator, scores):
    """Slopes of the outputs by the raw scores, (n_samples, n_outputs, n_outputs)."""
    slopes = np.broadcast_to(np.eye(scores.shape[1]), (len(scores), *[scores.shape[1]] * 2))
    if estimator.out_activation_ == "cumulative_softplus":  # s_0, and each next one softplus above
        steps = scipy.special.expit(scores)
        steps[:, 0] = 1.0
        slopes = np.tril(np.broadcast_to(steps[:, np.newaxis, :], slopes.shape))
    scale = vars(estimator).get("target_scale_")
    return slopes if scale is None else slopes * np.reshape(scale, (-1, 1))
