"""What rounding the operands of products loses: columns of X that are far from 0, and narrow.

In the 8 bits of bfloat16 the years 2005 to 2020 are 2008 and 2016.  Here is the
warning of it, before training, where a product of X is rounded at all; what is rounded, and when,
is told in `fastbp.engine.precision` and decided by the engine.
"""

import numpy as np

from fastbp.engine.precision import PREDICTION_ROWS
from fastbp.messages import warn_user

# A column whose mean is so many times its standard deviation has steps of rounding, 2^-8 to 2^-7 of
# the mean, of 0.4 to 0.8 standard deviations and more.
FAR = 100.0
SAMPLE_ROWS = 512  # evenly spaced, on which this is looked for
MOST_NAMED = 3


def rounds_inputs(problem, batch_size):
    """Whether training on minibatches of so many rows, or predictions, see X in bfloat16.

    Sparse X is never rounded, nor are encoded tables, whose columns are sparse.
    """
    if problem.matmul_precision != "medium" or problem.is_sparse or problem.n_members is not None:
        return False
    return any(
        problem.engine.precision_of_inputs(problem.layer_sizes, n_rows, "medium") == "medium"
        for n_rows in (batch_size, PREDICTION_ROWS)
    )


def warn_of_far_columns(problem, batch_size):
    """Warn of columns that "medium" blurs, by some rows of them; else cost nothing."""
    if not rounds_inputs(problem, batch_size):
        return
    n_rows = problem.X.shape[0]
    rows = np.arange(0, n_rows, -(-n_rows // SAMPLE_ROWS))
    X = problem.some_rows(rows, SAMPLE_ROWS).X
    X = np.asarray(X, np.float64)
    means, spreads = X.mean(axis=0), X.std(axis=0)
    found = np.flatnonzero((spreads > 0) & (np.abs(means) > FAR * spreads))
    if not len(found):
        return
    names = problem.feature_names
    told = [
        f"{column}{'' if names is None else f' ({names[column]!r})'}, {means[column]:.4g} +- "
        f"{spreads[column]:.2g}"
        for column in found[:MOST_NAMED].tolist()
    ]
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    warn_user(
        "matmul_precision='medium' keeps 8 bits of each value, of which little but the mean is "
        f"left where it is more than {FAR:g} times the standard deviation: column"
        f"{'s' * (len(found) > 1)} {'; '.join(told)}{more} of X. Subtract the mean (for example "
        "with StandardScaler), or use matmul_precision='high'."
    )
