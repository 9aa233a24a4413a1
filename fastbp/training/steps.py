"""What the steps of a call are made with: minibatches of which size, which optimiser and schedule.

The state of an optimiser is a dict of plain types that pickles, and goes on in later calls; the
session of the engine that works with it is opened here.
"""

from fastbp.messages import warn_user
from fastbp.optimizers import AUTO_BATCH_SIZE, OPTIMIZERS, optimizer_for
from fastbp.schedules import Function, schedule_for
from fastbp.training.streamed import wrap_session


def choose_optimizer(old, settings, *, incremental, resumes):
    """Return the optimizer to train with: a new one, or the last call's."""
    if incremental and old:
        if old["schedule"] != Function.name:
            return dict(old)
        # A function of the user's is never kept: the parameter says how the rate goes on.
        return old | describe_schedule(settings, OPTIMIZERS[old["solver"]])
    new = new_optimizer(settings)
    if resumes and old and old["solver"] == new["solver"]:
        new |= {name: old[name] for name in ("slots", "t", "dropout_seed")}
        if new["ema_decay"] is not None:
            new["weights"] = old["weights"]
        schedule = ("schedule", "schedule_parameters", "learning_rate_init")
        if all(old[name] == new[name] for name in schedule):
            new |= {name: old[name] for name in ("learning_rate", "step")}
    return new


def new_optimizer(settings):
    """Describe a solver before its first step, in plain types that pickle.

    Besides settings: `slots` and the number of steps `t`, as the engine's `set_optimizer` takes
    them; `step`, the place in the learning rate's schedule (minibatches without weight count);
    `weights`, those that steps change where predictions use an average of them; `dropout_seed`.
    """
    entry = optimizer_for(settings.solver, settings)
    rate = float(settings.learning_rate_init)
    return {  # vars: constructors store their arguments, and get_params reads the signature
        "solver": entry.name,
        "hyperparameters": dict(vars(entry)),
        **describe_schedule(settings, entry),
        "learning_rate_init": rate,
        "learning_rate": rate,
        "max_grad_norm": settings.max_grad_norm,
        "ema_decay": settings.ema_decay,
        "dropout_seed": None,
        "weights": None,
        "slots": None,
        "t": 0,
        "step": 0,
    }


def describe_schedule(settings, entry):
    """Describe the schedule of the parameters for a solver, in plain types that pickle."""
    schedule = schedule_for(settings.learning_rate, entry, settings)
    parameters = {} if isinstance(schedule, Function) else dict(vars(schedule))
    return {"schedule": schedule.name, "schedule_parameters": parameters}


def open_session(problem, progress, optimizer, batch_size):
    """Make a session that goes on from the state of an optimizer; the caller closes it."""
    slots, weights = optimizer["slots"], optimizer["weights"]
    slots = None if slots is None else slots.astype(problem.dtype, copy=False)
    start, average = progress.params, None
    if weights is not None:
        start, average = weights.astype(problem.dtype, copy=False), progress.params
    session = wrap_session(problem.open_session(start, batch_size), problem)
    session.set_optimizer(
        OPTIMIZERS[optimizer["solver"]],
        optimizer["hyperparameters"],
        slots,
        optimizer["t"],
        max_grad_norm=optimizer["max_grad_norm"],
        ema_decay=optimizer["ema_decay"],
        average=average,
    )
    if any(problem.dropout):
        session.set_dropout(problem.dropout, optimizer["dropout_seed"])
    return session


def choose_batch_size(batch_size, n_samples, *, quiet=False):
    """Return the rows per minibatch: "auto" is 200; never more than there are samples."""
    if batch_size == "auto":
        return min(AUTO_BATCH_SIZE, n_samples)
    if batch_size > n_samples and not quiet:
        warn_user(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
        )
    return int(min(batch_size, n_samples))
