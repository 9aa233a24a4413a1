"""Learning-rate schedules: the rate of the next epoch, as plain functions.

Here lives one row per schedule and the table `SCHEDULES`.  No training loop and no state: the
caller keeps the rate in force and asks for the next one.
"""

from collections.abc import Callable
from dataclasses import dataclass

SMALLEST_RATE = 1e-6
SHRINK = 5.0


@dataclass(frozen=True)
class Schedule:
    """Description of a learning-rate schedule.

    Parameters
    ----------
    name : str
        What the user writes.
    after_epoch : callable or None, default=None
        ``after_epoch(learning_rate_init, n_samples_seen, power_t) -> rate`` of the next epoch;
        None where the rate does not change with time.
    on_plateau : callable or None, default=None
        ``on_plateau(rate) -> smaller rate``, or None to stop, asked when training no longer
        improves; None where training always stops then.
    """

    name: str
    after_epoch: Callable | None = None
    on_plateau: Callable | None = None


def invscaling(learning_rate_init, n_samples_seen, power_t):
    """Compute rate = learning_rate_init / (n_samples_seen + 1)^power_t."""
    return learning_rate_init / (n_samples_seen + 1) ** power_t


def adaptive(rate):
    """Return a fifth of the rate on each plateau; None (stop) once it is 1e-6 or less."""
    return None if rate <= SMALLEST_RATE else rate / SHRINK


SCHEDULES = {
    row.name: row
    for row in (
        Schedule("constant"),
        Schedule("invscaling", after_epoch=invscaling),
        Schedule("adaptive", on_plateau=adaptive),
    )
}


def schedule_for(name, solver):
    """Row in force: as in scikit-learn, invscaling and adaptive act with ``solver="sgd"`` only."""
    return SCHEDULES[name if solver == "sgd" else "constant"]
