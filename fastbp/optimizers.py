"""Solvers: how one step changes a weight, as plain scalar Python.

Here lives one class per solver and the table `OPTIMIZERS`, the one place where they are listed.  No
arrays, no learning-rate schedule, no engine: the engines run these formulas over the flat vector,
and parameter validation takes the names from the table.  An object of a class is a solver with
hyper-parameters of its own; a name is the solver with those of the estimator.
"""

import math
from collections.abc import Callable
from numbers import Real

from fastbp.descriptions import BOOLEAN, Description, number_rule

AUTO_BATCH_SIZE = 200  # most rows of a step with batch_size="auto"

# What else they are called.
OTHER_WORDS = {
    **dict.fromkeys(("nadam", "adamax", "adagrad", "adadelta", "radam", "amsgrad"), "adam"),
    **dict.fromkeys(("bfgs", "l_bfgs_b", "quasi_newton"), "lbfgs"),
    **dict.fromkeys(("momentum", "nesterov", "gradient_descent", "gd"), "sgd"),
}
# What the hyper-parameters may be; the estimators' parameters of the same names read it too.
_MOMENTUM = (number_rule(Real, "[", 0.0, 1.0, "]"),)
_DECAY_RATE = (number_rule(Real, "[", 0.0, 1.0, ")"),)
_EPSILON = (number_rule(Real, "(", 0.0, math.inf, ")"),)
_WEIGHT_DECAY = (number_rule(Real, "[", 0.0, math.inf, ")"),)
_ADAM_RULES = {"beta_1": _DECAY_RATE, "beta_2": _DECAY_RATE, "epsilon": _EPSILON}


class Optimizer(Description):
    """Base of the solvers: what an engine must know of one, as attributes of its class.

    Attributes
    ----------
    name : str
        What the user writes.
    hyperparameters : tuple of str
        The constructor's parameters, in the order in which `update` takes them: those of `_rules`.
    shared : tuple of str
        Those that the name takes from the estimator's parameters; the others have the defaults of
        the constructor.
    update : callable or None
        ``update(w, g, slots, learning_rate, t, hyper) -> (w, slots)``: new weight and new state of
        one weight `w` with gradient `g`; `slots` and `hyper` are tuples in the order of the entry,
        `t` counts steps from 1.  None for a solver that works on the full batch.
    n_slots : int
        Numbers of state kept per weight, all starting at 0.
    squares : tuple of int
        Which of them are of squared gradients; the others have the sign of gradients or steps.
    decay : str or None
        The hyper-parameter that is a weight decay of its own: it is 0 for biases.
    stochastic : bool
        Whether it steps minibatch by minibatch (and has a `partial_fit`).
    kernel : str or None
        Name of the C loop that computes the same faster; None means the formula is compiled.
    """

    name: str = ""
    shared: tuple[str, ...] = ()
    update: Callable | None = None
    n_slots = 0
    squares: tuple[int, ...] = ()
    decay: str | None = None
    stochastic = True
    kernel: str | None = None

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Names of the settings."""
        return tuple(self._rules)


def sgd_update(w, g, slots, learning_rate, t, hyper):
    """Gradient descent with momentum (Polyak 1964), or Nesterov's look-ahead form of it.

    ``v = momentum v - rate g``; then ``w + v``, with Nesterov ``w + momentum v - rate g``
    (Sutskever et al. 2013, rewritten for the weights after the look-ahead, as in scikit-learn).
    Without momentum ``w - rate g``, and the v that nothing would read is left alone.
    """
    momentum, nesterovs_momentum = hyper
    if momentum == 0.0:
        return w - learning_rate * g, (slots[0],)
    v = momentum * slots[0] - learning_rate * g
    step = momentum * v - learning_rate * g if nesterovs_momentum else v
    return w + step, (v,)


def adam_update(w, g, slots, learning_rate, t, hyper):
    """Adam (Kingma & Ba 2014, section 2 end: efficient form), scikit-learn's variant.

    The step size is ``rate sqrt(1 - beta_2^t) / (1 - beta_1^t)`` and epsilon is added outside that
    correction: ``w - size m / (sqrt(v) + epsilon)``.  PyTorch adds epsilon to the corrected root.
    """
    beta_1, beta_2, epsilon = hyper
    m = beta_1 * slots[0] + (1.0 - beta_1) * g
    v = beta_2 * slots[1] + (1.0 - beta_2) * g * g
    size = learning_rate * math.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t)
    return w - size * m / (math.sqrt(v) + epsilon), (m, v)


def adamw_update(w, g, slots, learning_rate, t, hyper):
    """Adam's step from ``(1 - rate weight_decay) w`` (Loshchilov & Hutter 2019)."""
    beta_1, beta_2, epsilon, weight_decay = hyper
    m = beta_1 * slots[0] + (1.0 - beta_1) * g
    v = beta_2 * slots[1] + (1.0 - beta_2) * g * g
    size = learning_rate * math.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t)
    kept = (1.0 - learning_rate * weight_decay) * w
    return kept - size * m / (math.sqrt(v) + epsilon), (m, v)


def rmsprop_update(w, g, slots, learning_rate, t, hyper):
    """RMSprop (Tieleman & Hinton 2012), with momentum on the scaled gradient.

    ``v = beta_2 v + (1 - beta_2) g^2``; ``u = momentum u + g / (sqrt(v) + epsilon)``;
    ``w - rate u``.  No bias correction: v starts at 0.
    """
    beta_2, epsilon, momentum = hyper
    v = beta_2 * slots[0] + (1.0 - beta_2) * g * g
    u = momentum * slots[1] + g / (math.sqrt(v) + epsilon)
    return w - learning_rate * u, (v, u)


def lion_update(w, g, slots, learning_rate, t, hyper):
    """Lion (Chen et al. 2023, algorithm 2): every weight moves by the rate.

    ``u = beta_1 m + (1 - beta_1) g``; ``(1 - rate weight_decay) w - rate sign(u)``; then
    ``m = beta_2 m + (1 - beta_2) g``.
    """
    beta_1, beta_2, weight_decay = hyper
    u = beta_1 * slots[0] + (1.0 - beta_1) * g
    sign = u / abs(u) if u != 0.0 else 0.0 * u  # NaN stays NaN
    m = beta_2 * slots[0] + (1.0 - beta_2) * g
    return (1.0 - learning_rate * weight_decay) * w - learning_rate * sign, (m,)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, the solver "sgd".

    Parameters
    ----------
    momentum : float, default=0.9
        Share of the last step that goes into the next, from 0 (plain descent) to 1.
    nesterovs_momentum : bool, default=True
        Whether to take the gradient's step from where the momentum leads.

    References
    ----------
    Polyak (1964), Some methods of speeding up the convergence of iteration methods.
    Sutskever, Martens, Dahl & Hinton (2013), On the importance of initialization and momentum in
    deep learning.

    Examples
    --------
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.optimizers import SGD
    >>> BackpropClassifier(solver=SGD(momentum=0.95), learning_rate_init=0.05).solver
    SGD(momentum=0.95)
    """

    name = kernel = "sgd"
    _rules = {"momentum": _MOMENTUM, "nesterovs_momentum": (BOOLEAN,)}
    shared = tuple(_rules)
    update = staticmethod(sgd_update)
    n_slots = 1

    def __init__(self, momentum=0.9, nesterovs_momentum=True):
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum


class Adam(Optimizer):
    """Adam, the solver "adam".

    Parameters
    ----------
    beta_1 : float, default=0.9
        Decay rate of the mean of the gradients, in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of the mean of their squares, in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of that mean, outside the bias correction.

    References
    ----------
    Kingma & Ba (2014), Adam: A method for stochastic optimization.

    Examples
    --------
    >>> from fastbp import BackpropRegressor
    >>> from fastbp.optimizers import Adam
    >>> BackpropRegressor(solver=Adam(beta_2=0.95)).solver
    Adam(beta_2=0.95)
    """

    name = kernel = "adam"
    _rules = _ADAM_RULES
    shared = tuple(_rules)
    update = staticmethod(adam_update)
    n_slots = 2
    squares = (1,)

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon


class AdamW(Optimizer):
    """Adam with a weight decay apart from the gradient, the solver "adamw".

    Each step multiplies the weights, not the biases, by ``1 - rate * weight_decay``. The penalty
    `alpha` of the estimator acts besides, through the loss and so through Adam's scaling of the
    gradient; set ``alpha=0`` to have the decay alone.

    Parameters
    ----------
    beta_1 : float, default=0.9
        Decay rate of the mean of the gradients, in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of the mean of their squares, in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of that mean, outside the bias correction.
    weight_decay : float, default=0.01
        Strength of the decay, not negative.

    References
    ----------
    Loshchilov & Hutter (2019), Decoupled weight decay regularization.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.optimizers import AdamW
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((8,), solver=AdamW(), alpha=0, tol=0.01, random_state=0)
    >>> search = GridSearchCV(model, {"solver__weight_decay": [0.0, 0.1]}, cv=2).fit(X, y)
    >>> sorted(search.best_params_)
    ['solver__weight_decay']
    """

    name = kernel = "adamw"
    _rules = {**_ADAM_RULES, "weight_decay": _WEIGHT_DECAY}
    shared = tuple(_ADAM_RULES)
    update = staticmethod(adamw_update)
    n_slots = 2
    squares = (1,)
    decay = "weight_decay"

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.01):
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay


class RMSprop(Optimizer):
    """RMSprop, the solver "rmsprop"; the name takes nothing from the estimator's parameters.

    Parameters
    ----------
    beta_2 : float, default=0.99
        Decay rate of the mean of the squared gradients, in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of that mean.
    momentum : float, default=0.0
        Share of the last step that goes into the next, from 0 to 1.

    References
    ----------
    Tieleman & Hinton (2012), Lecture 6.5: Divide the gradient by a running average of its recent
    magnitude.

    Examples
    --------
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.optimizers import RMSprop
    >>> BackpropClassifier(solver=RMSprop(momentum=0.9)).solver
    RMSprop(momentum=0.9)
    """

    name = kernel = "rmsprop"
    _rules = {"beta_2": _DECAY_RATE, "epsilon": _EPSILON, "momentum": _MOMENTUM}
    update = staticmethod(rmsprop_update)
    n_slots = 2
    squares = (0,)

    def __init__(self, beta_2=0.99, epsilon=1e-8, momentum=0.0):
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.momentum = momentum


class Lion(Optimizer):
    """Lion, the solver "lion"; the name takes nothing from the estimator's parameters.

    Every step moves every weight by the learning rate, whatever the gradient's size. Rates 3 to 10
    times smaller than Adam's are usual.

    Parameters
    ----------
    beta_1 : float, default=0.9
        Weight of the mean of the gradients against the newest one in the direction of the step, in
        [0, 1).
    beta_2 : float, default=0.99
        Decay rate of that mean, in [0, 1).
    weight_decay : float, default=0.01
        Strength of the decay of the weights, as in `AdamW`: not negative, apart from the gradient.

    References
    ----------
    Chen et al. (2023), Symbolic discovery of optimization algorithms.

    Examples
    --------
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.optimizers import Lion
    >>> BackpropClassifier(solver=Lion(weight_decay=0.1), learning_rate_init=3e-4).solver
    Lion(weight_decay=0.1)
    """

    name = kernel = "lion"
    _rules = {"beta_1": _DECAY_RATE, "beta_2": _DECAY_RATE, "weight_decay": _WEIGHT_DECAY}
    update = staticmethod(lion_update)
    n_slots = 1
    decay = "weight_decay"

    def __init__(self, beta_1=0.9, beta_2=0.99, weight_decay=0.01):
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.weight_decay = weight_decay


class LBFGS(Optimizer):
    """scipy's L-BFGS-B over the full batch, the solver "lbfgs"; it has no hyper-parameters here.

    The estimator's `max_iter`, `max_fun` and `tol` say when it ends.

    References
    ----------
    Byrd, Lu & Nocedal (1995), A limited memory algorithm for bound constrained optimization.
    """

    name = "lbfgs"
    stochastic = False


OPTIMIZERS = {entry.name: entry for entry in (LBFGS(), SGD(), Adam(), AdamW(), RMSprop(), Lion())}


def is_solver(value):
    """Whether a value is a name or an object of the table."""
    if isinstance(value, str):
        return value in OPTIMIZERS
    return isinstance(value, Optimizer) and type(value) is type(OPTIMIZERS.get(value.name))


def is_full_batch(value):
    """Whether a value is a solver that does not step by minibatches."""
    return is_solver(value) and not optimizer_for(value).stochastic


def optimizer_for(solver, settings=None):
    """Row of a solver, with the hyper-parameters that are in force.

    Parameters
    ----------
    solver : str or Optimizer
        An object owns its hyper-parameters.
    settings : namespace of the estimator's parameters or None
        Where a name takes its `shared` hyper-parameters from; None leaves the defaults.

    Returns
    -------
    Optimizer
    """
    if not isinstance(solver, str):
        return solver
    entry = OPTIMIZERS[solver]
    if settings is None:
        return entry
    return type(entry)(**{name: getattr(settings, name) for name in entry.shared})
