"""Learning-rate schedules: the rate of every step, or what changes it after an epoch.

Here lives one class per schedule and the table `SCHEDULES`, the one place where they are listed.
No training loop and no state: the caller keeps the rate in force, counts steps and asks.  Which
function a schedule has tells its kind: `factors` (the rate is a function of the step),
`after_epoch` (of what an epoch reached), `on_plateau` (asked when training would stop).
"""

import math
from collections.abc import Callable
from numbers import Integral, Real

import numpy as np

from fastbp.descriptions import Description, is_function, number_of, number_rule

# What else they are called.
OTHER_WORDS = {
    "reduce_on_plateau": "plateau", "reduce_lr_on_plateau": "plateau", "cosine_annealing": "cosine",
    "cosine_decay": "cosine", "cyclic": "one_cycle", "super_convergence": "one_cycle",
    "linear_decay": "linear", "inverse": "invscaling", "inverse_time_decay": "invscaling",
    "optimal": "constant", "fixed": "constant", "none": "constant", "warmup": "one_cycle",
}  # fmt: skip
SMALLEST_RATE = 1e-6
SHRINK = 5.0
# What the settings may be.
_WARMUP = (number_rule(Real, "[", 0.0, 1.0, ")"),)
_FRACTION = (number_rule(Real, "[", 0.0, 1.0, "]"),)


class Schedule(Description):
    """Base of the schedules: what training must know of one, as attributes of its class.

    Attributes
    ----------
    name : str
        What the user writes.
    shared : tuple of str
        Constructor parameters that the name takes from the estimator's.
    every_solver : bool
        Whether it acts with every stochastic solver, not with "sgd" alone.
    factors : callable or None
        ``factors(first, n, n_steps) -> float64 ndarray of shape (n,)``: what `learning_rate_init`
        is multiplied by in steps ``first .. first + n - 1``, counted from 0, of a training of
        `n_steps` steps.  Beyond the end the last factor holds.
    after_epoch : callable or None
        ``after_epoch(rate, learning_rate_init, n_samples_seen, no_improvement_count) -> rate`` of
        the next epoch.
    on_plateau : callable or None
        ``on_plateau(rate) -> smaller rate``, or None to stop, asked when training no longer
        improves; None where training always stops then.
    """

    name: str = ""
    shared: tuple[str, ...] = ()
    every_solver = True
    factors: Callable | None = None
    after_epoch: Callable | None = None
    on_plateau: Callable | None = None


class Constant(Schedule):
    """The same rate in every step, the schedule "constant"."""

    name = "constant"


class InvScaling(Schedule):
    """``learning_rate_init / (n_samples_seen + 1)^power_t`` after each epoch, as in scikit-learn.

    The schedule "invscaling"; acts with the solver "sgd" only.

    Parameters
    ----------
    power_t : float, default=0.5
        Exponent, not negative.  The name takes it from the estimator.
    """

    name = "invscaling"
    shared = ("power_t",)
    _rules = {"power_t": (number_rule(Real, "[", 0.0, math.inf, ")"),)}
    every_solver = False

    def __init__(self, power_t=0.5):
        self.power_t = power_t

    def after_epoch(self, rate, learning_rate_init, n_samples_seen, no_improvement_count):
        """Compute the rate of the next epoch."""
        return learning_rate_init / (n_samples_seen + 1) ** self.power_t


class Adaptive(Schedule):
    """A fifth of the rate each time training would stop, as in scikit-learn.

    The schedule "adaptive"; acts with the solver "sgd" only.  Training stops once the rate is 1e-6
    or less.
    """

    name = "adaptive"
    every_solver = False

    def on_plateau(self, rate):
        """Return a fifth of the rate; None (stop) once it is 1e-6 or less."""
        return None if rate <= SMALLEST_RATE else rate / SHRINK


def _progress(first, n, n_steps, warmup):
    """Share of the warm-up done and share of the rest done, for n steps.

    The first counts the step in hand and the second does not, so that no step has the rate 0.
    """
    step = np.minimum(np.arange(first, first + n, dtype=np.float64), n_steps - 1)
    rising = warmup * n_steps
    up = np.minimum((step + 1) / rising, 1.0) if rising else np.ones(n)
    return up, np.maximum(step - rising, 0.0) / (n_steps - rising)


class Cosine(Schedule):
    """A rate that falls along half a cosine wave, the schedule "cosine".

    In step s of S, counted from 0, `learning_rate_init` is multiplied by
    ``final + (1 - final) (1 + cos(pi u)) / 2`` with ``u = s / S``; with a warm-up, which rises
    linearly before, u is the share done of what comes after it.

    Parameters
    ----------
    warmup : float, default=0.0
        Share of the steps in which the rate rises to `learning_rate_init`, in [0, 1).
    final : float, default=0.0
        What the rate falls to, as a multiple of `learning_rate_init`, from 0 to 1.

    References
    ----------
    Loshchilov & Hutter (2017), SGDR: Stochastic gradient descent with warm restarts.

    Examples
    --------
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.schedules import Cosine
    >>> Cosine().factors(0, 5, 5).round(3).tolist()
    [1.0, 0.905, 0.655, 0.345, 0.095]
    >>> BackpropClassifier(learning_rate=Cosine(warmup=0.05)).learning_rate
    Cosine(warmup=0.05)
    """

    name = "cosine"
    _rules = {"warmup": _WARMUP, "final": _FRACTION}

    def __init__(self, warmup=0.0, final=0.0):
        self.warmup = warmup
        self.final = final

    def factors(self, first, n, n_steps):
        """Compute what `learning_rate_init` is multiplied by."""
        up, done = _progress(first, n, n_steps, self.warmup)
        return up * (self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * done)))


class Linear(Schedule):
    """A rate that falls along a line, the schedule "linear".

    In step s of S, counted from 0, `learning_rate_init` is multiplied by ``1 - (1 - final) u``
    with ``u = s / S``; with a warm-up, which rises linearly before, u is the share done of what
    comes after it.

    Parameters
    ----------
    warmup : float, default=0.0
        Share of the steps in which the rate rises to `learning_rate_init`, in [0, 1).
    final : float, default=0.0
        What the rate falls to, as a multiple of `learning_rate_init`, from 0 to 1.

    Examples
    --------
    >>> from fastbp.schedules import Linear
    >>> Linear(warmup=0.5).factors(0, 4, 4).tolist()
    [0.5, 1.0, 1.0, 0.5]
    """

    name = "linear"
    _rules = {"warmup": _WARMUP, "final": _FRACTION}

    def __init__(self, warmup=0.0, final=0.0):
        self.warmup = warmup
        self.final = final

    def factors(self, first, n, n_steps):
        """Compute what `learning_rate_init` is multiplied by."""
        up, done = _progress(first, n, n_steps, self.warmup)
        return up * (1 - (1 - self.final) * done)


class OneCycle(Schedule):
    """A rate that rises and falls along cosines, the schedule "one_cycle".

    It goes from ``start`` to 1 times `learning_rate_init` (the peak) during the warm-up, then to
    ``final``.  The momentum stays as it is.

    Parameters
    ----------
    warmup : float, default=0.3
        Share of the steps in which the rate rises, in [0, 1).
    start : float, default=0.04
        Where it begins, as a multiple of the peak, from 0 to 1.
    final : float, default=4e-6
        Where it ends, as a multiple of the peak, from 0 to 1.

    References
    ----------
    Smith & Topin (2018), Super-convergence: Very fast training of neural networks using large
    learning rates.  Both phases by cosine and the defaults are those of fastai and PyTorch.

    Examples
    --------
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.schedules import OneCycle
    >>> BackpropClassifier(learning_rate=OneCycle(warmup=0.2)).learning_rate
    OneCycle(warmup=0.2)
    """

    name = "one_cycle"
    _rules = {"warmup": _WARMUP, "start": _FRACTION, "final": _FRACTION}

    def __init__(self, warmup=0.3, start=0.04, final=4e-6):
        self.warmup = warmup
        self.start = start
        self.final = final

    def factors(self, first, n, n_steps):
        """Compute what `learning_rate_init` is multiplied by."""
        up, done = _progress(first, n, n_steps, self.warmup)
        rising = self.start + (1 - self.start) * 0.5 * (1 - np.cos(np.pi * up))
        falling = self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * done))
        return np.where(done > 0, falling, rising)


class Plateau(Schedule):
    """A smaller rate after epochs without improvement, the schedule "plateau".

    What counts as improvement is the estimator's business (`tol`, on the training loss or on
    validation data), and so is when training ends: after `n_iter_no_change` epochs without any,
    which should be more than `patience`.

    Parameters
    ----------
    factor : float, default=0.5
        What the rate is multiplied by, in (0, 1).
    patience : int, default=5
        After how many epochs in a row without improvement; and again after as many more.
    final : float, default=0.0
        The rate does not fall below this multiple of `learning_rate_init`, from 0 to 1.

    Examples
    --------
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.schedules import Plateau
    >>> BackpropClassifier(learning_rate=Plateau(patience=3)).learning_rate
    Plateau(patience=3)
    """

    name = "plateau"
    _rules = {
        "factor": (number_rule(Real, "(", 0.0, 1.0, ")"),),
        "patience": (number_rule(Integral, "[", 1, math.inf, ")"),),
        "final": _FRACTION,
    }

    def __init__(self, factor=0.5, patience=5, final=0.0):
        self.factor = factor
        self.patience = patience
        self.final = final

    def after_epoch(self, rate, learning_rate_init, n_samples_seen, no_improvement_count):
        """Compute the rate of the next epoch."""
        if no_improvement_count == 0 or no_improvement_count % self.patience:
            return rate
        return max(rate * self.factor, min(rate, self.final * learning_rate_init))


class Function(Schedule):
    """A rate that a function of the step gives.

    Parameters
    ----------
    value : callable
        ``value(step, n_steps) -> factor`` of `learning_rate_init`: a finite number, not negative.
        Steps count from 0; `n_steps` is their number in all.

    Examples
    --------
    >>> from fastbp.schedules import Function
    >>> Function(lambda step, n_steps: 0.5**step).factors(0, 3, 100).tolist()
    [1.0, 0.5, 0.25]
    """

    name = "function"
    _rules = {"value": ((is_function, "a function of step and n_steps"),)}

    def __init__(self, value):
        self.value = value

    def factors(self, first, n, n_steps):
        """Ask the function step by step.

        Raises
        ------
        ValueError
            If it gives anything but a finite number that is not negative.
        """
        factors = np.empty(n)
        for i in range(n):
            step = min(first + i, n_steps - 1)
            try:
                factor = self.value(step, n_steps)
            except Exception as error:
                what = f"learning_rate={self.value!r}"
                error.add_note(f"fastbp: {what} raised this for step {step} of {n_steps}.")
                raise
            factors[i] = number_of(factor)
            if not 0 <= factors[i] < np.inf:
                raise ValueError(
                    f"learning_rate={self.value!r} must give a finite number >= 0, what "
                    f"learning_rate_init is multiplied by. Got {factor!r} for step {step} of "
                    f"{n_steps}."
                )
        return factors


SCHEDULES = {
    entry.name: entry
    for entry in (Constant(), InvScaling(), Adaptive(), Cosine(), OneCycle(), Linear(), Plateau())
}


def is_schedule(value):
    """Whether a value is a name or an object of the table, or a function."""
    if isinstance(value, str):
        return value in SCHEDULES
    if isinstance(value, Schedule):
        return isinstance(value, Function) or type(value) is type(SCHEDULES.get(value.name))
    return is_function(value)


def schedule_for(wanted, optimizer, settings=None):
    """Schedule in force for a solver.

    Parameters
    ----------
    wanted : str, callable or Schedule
        A name takes its `shared` parameters from `settings`, where there are any.
    optimizer : fastbp.optimizers.Optimizer
    settings : namespace of the estimator's parameters or None

    Returns
    -------
    Schedule
        As in scikit-learn, "invscaling" and "adaptive" act with "sgd" only: with other solvers the
        rate is constant.
    """
    entry = wanted
    if isinstance(wanted, str):
        entry = SCHEDULES[wanted]
        if entry.shared and settings is not None:
            entry = type(entry)(**{name: getattr(settings, name) for name in entry.shared})
    elif not isinstance(wanted, Schedule):
        entry = Function(wanted)
    return entry if entry.every_solver or optimizer.name == "sgd" else SCHEDULES["constant"]


def recreate(name, parameters):
    """Schedule of this name with these constructor parameters."""
    return (Function if name == "function" else type(SCHEDULES[name]))(**parameters)
