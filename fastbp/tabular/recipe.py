"""The recipe of the tabular estimators, as far as the data decide it: parts of rows, batch sizes.

The constants are what trials on real tables found (bench/results/quality.md says what each
ingredient brings).  Nothing here trains.
"""

import numpy as np

FEWEST_HELD_OUT = 2  # rows of a part; tables with fewer hold nothing out
STEPS_PER_EPOCH = 32  # about so many, within the limits
SMALL = 2000  # rows
SMALLEST_BATCH, LARGEST_BATCH = 32, 256
# Most epochs: so many that a network trains on 400 000 rows in all, and no more than 256; above
# 16 000 rows 25 times the third root of 16 000 / rows: more rows need fewer epochs, but more steps.
ROWS_IN_ALL, MOST_EPOCHS = 400_000, 256
MANY, EPOCHS_OF_MANY = 16_000, 25
MOST_NARROW = 10  # outputs; on letter, with 26 classes, 256 units had a third less errors than 128
LEAST_GAIN = 1e-12  # of a score: one that stays the same, as accuracies do, is no better
USUAL_DROPOUT = 0.15  # hurts where y is nearly a function of X, and helps where it is noisy
BETA_2 = 0.99  # of AdamW: steps are few, and the default remembers a thousand


def deal_rows(targets, weights, n_parts, random_state, *, classes):
    """Deal the rows into parts, each of which one network holds out.

    Like cards, in the order of y: every part has the classes, or the range of values, of the whole.
    Rows of classes with fewer rows than parts are never held out, nor rows without weight.

    Parameters
    ----------
    targets : ndarray of shape (n_samples, n_targets)
        Codes of classes, or numbers.
    weights : ndarray of shape (n_samples,) or None
    n_parts : int
    random_state : RandomState
    classes : bool
        Whether targets are codes.

    Returns
    -------
    list of tuple of int64 ndarray
        Rows to train on and rows to hold out, for each network.  In a table too small for so many
        parts there are fewer; in a tiny one all rows are both.
    """
    n_samples, key = len(targets), targets[:, 0]
    may = np.ones(n_samples, bool) if weights is None else weights > 0
    if classes:
        codes = key.astype(np.intp)
        may &= np.bincount(codes[may], minlength=codes.max() + 1)[codes] >= n_parts
    rows = np.flatnonzero(may)
    if len(rows) < n_parts * FEWEST_HELD_OUT or n_parts < 2:
        return _deal_few(rows, n_samples, n_parts, random_state)
    order = rows[np.lexsort((random_state.permutation(len(rows)), key[rows]))]
    part = np.full(n_samples, -1)
    n_rounds = -(-len(order) // n_parts)
    dealt = random_state.random_sample((n_rounds, n_parts)).argsort(axis=1)
    part[order] = dealt.ravel()[: len(order)]
    return [(np.flatnonzero(part != p), np.flatnonzero(part == p)) for p in range(n_parts)]


def _deal_few(rows, n_samples, n_parts, random_state):
    """Parts of a tiny table, or one part of a fifth where one network was asked for."""
    n_held_out = len(rows) // 5
    if n_held_out < FEWEST_HELD_OUT:
        everything = np.arange(n_samples)
        return [(everything, everything)]
    held_out = np.sort(random_state.permutation(rows)[:n_held_out])
    return [(np.setdiff1d(np.arange(n_samples), held_out), held_out)]


def choose_dropouts(settings, *, classes):
    """List the dropouts to try: what the user said, or what "auto" means."""
    if settings.dropout != "auto":
        return [settings.dropout]
    if settings.max_time is not None:  # no time to try
        return [USUAL_DROPOUT if classes else 0.0]
    return [0.0, USUAL_DROPOUT]


def choose_n_members(n_samples):
    """Members of a network: small tables can afford more."""
    return 8 if n_samples < SMALL else 4


def choose_batch_size(n_samples):
    """Rows of a minibatch: a power of two, so that an epoch has some dozens of steps."""
    wanted = 2 ** round(np.log2(max(n_samples / STEPS_PER_EPOCH, 1)))
    return int(min(max(wanted, SMALLEST_BATCH), LARGEST_BATCH))


def choose_max_iter(n_samples):
    """Most epochs for so many rows."""
    if n_samples > MANY:
        return round(EPOCHS_OF_MANY * (MANY / n_samples) ** (1 / 3)) or 1
    return min(ROWS_IN_ALL // n_samples, MOST_EPOCHS)


def choose_hidden_layers(n_outputs):
    """Units of the hidden layers."""
    return (128, 128) if n_outputs <= MOST_NARROW else (256, 256)


def choose_ema_decay(n_samples, batch_size):
    """Decay of the average of the weights: its mean age is about an epoch."""
    return 1 - 1 / max(20, -(-n_samples // batch_size))
