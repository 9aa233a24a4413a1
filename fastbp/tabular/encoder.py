"""`TableEncoder`: what users construct, fit and ask for the encoded table; no arithmetic.

What columns are is found by `columns`, what they become is learned by `plan`.  The way from a table
to its encoding has two steps for all who keep tables: `_read` makes the compact form, numbers and
codes, and `_encode` the matrix, for all rows or some, into memory that is given.
"""

from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_feature_names_in, validate_data

from fastbp.descriptions import (
    NONE,
    instance_rule,
    is_allowed,
    name_rule,
    number_rule,
    plain,
    refusal,
)
from fastbp.estimators.annotations import Features, RandomState, Targets
from fastbp.messages import explains_its_arguments, find_name
from fastbp.tables import Text, format_table
from fastbp.tabular.columns import open_table
from fastbp.tabular.description import describe_plan, plan_from
from fastbp.tabular.plan import make_plan


def _is_array_of_columns(value):
    if isinstance(value, str):
        return False
    try:
        return np.ndim(value) == 1
    except ValueError:  # lists of several lengths
        return False


_COUNT = number_rule(Integral, "[", 1, float("inf"), ")")
RULES = {
    "categorical_features": (
        name_rule("from_dtype", other_words={"auto": "from_dtype", "infer": "from_dtype"}),
        (_is_array_of_columns, "an array-like of str, int or bool"),
        NONE,
    ),
    "n_bins": (name_rule("auto"), _COUNT),
    "encoding": (
        name_rule(
            "piecewise", "hat", "none",
            other_words={
                "ple": "piecewise", "piecewise_linear": "piecewise", "quantile": "piecewise",
                "spline": "hat", "bspline": "hat", "hats": "hat", "linear": "piecewise",
            },
        ),
    ),
    "max_levels": (_COUNT,),
    "min_frequency": (_COUNT, number_rule(Real, "(", 0.0, 1.0, ")")),
    "target_type": (
        name_rule(
            "auto", "continuous", "binary", "multiclass",
            other_words={"regression": "continuous", "classification": "multiclass"},
        ),
    ),
    "random_state": (
        number_rule(Integral, "[", 0, 2**32 - 1, "]"),
        instance_rule(np.random.RandomState),
        NONE,
    ),
}  # fmt: skip


class TableEncoder(TransformerMixin, BaseEstimator):
    """Encode a raw table as numbers that neural networks learn well from.

    Frames of pandas, polars and pyarrow, and arrays, with numbers, text, categories, booleans,
    dates and missing values, become one float32 array. What each column is taken for is found in
    `fit`, and shown by `summary`.

    Parameters
    ----------
    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
default="from_dtype"
        Which columns are categories. "from_dtype": those of a frame or array that hold text,
        booleans, objects or a dtype of categories; columns of objects that all are numbers, dates
        or durations are these. Otherwise names, indices or a mask, as in
        `HistGradientBoostingClassifier`; other columns must then hold numbers or dates. None: no
        column.
    n_bins : int or "auto", default="auto"
        At most so many pieces for each column of numbers. "auto": 512 divided by the number of such
        columns (those with more than two values; parts of dates count), one for 32 rows, 48: the
        smallest of these, but at least 8. Columns with few values, at most 256 and one for 32 rows,
        get a piece for each value where the 512 suffice, and the others share the rest.
    encoding : {"piecewise", "hat", "none"}, default="piecewise"
        What joins the scaled value of a number. "piecewise": for each bin, how far the value has
        come through it, from 0 to 1. "hat": for each knot, a hat function, 1 there and 0 at its
        neighbours. "none": nothing.
    max_levels : int, default=20
        So many levels of a category, the most frequent ones, have an output of their own. A
        category with more levels also has target-encoded outputs if y is given.
    min_frequency : int or float, default=5
        A level of fewer rows, or of a smaller share of all rows (float), has no output of its own;
        nor has a value of an amount.
    target_type : {"auto", "continuous", "binary", "multiclass"}, default="auto"
        What y is, for the target encoding, as in scikit-learn's `TargetEncoder`. "auto" takes
        whole numbers for classes if they are at most 50 different ones.
    random_state : int, RandomState instance or None, default=0
        Of the folds of the target encoding in `fit_transform`.

    Attributes
    ----------
    columns_ : list of TableColumn
        For each column of the table its name, what it is taken for (`kind`: "number", "category",
        "date", or "constant" and "identifier", which are left out), `n_outputs`, `levels` and
        `knots`.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X had names that are all strings.

    See Also
    --------
    sklearn.preprocessing.TargetEncoder : What the target-encoded outputs are computed with.

    Notes
    -----
    **Numbers.** The first output is ``z / sqrt(1 + (z / 3)^2)`` with z the distance from the median
    in quartile ranges (where that is 0, in whole ranges) [1]_; beside it the pieces between knots
    at quantiles [2]_ (where values repeat, each counts by the root of its rows), or at all values
    if there are fewer. A column with two values has one output, 0 for the lower one and 1 for the
    other. A column of amounts, where half of the rows or more have the same value and the others
    one of a few (ten values or more in all, with a piece for each), also has an indicator of each
    value that is not rare, as a category would. Infinity counts as a very large value: the scaled
    value is 3, and all pieces end at the last knot. A missing value is 0 in all outputs of its
    column and 1 in an indicator, which there is if values were missing in `fit`; if none were, it
    is encoded as the median.

    **Categories.** Each level has an indicator; levels that are rare, or beyond `max_levels`, share
    one ("infrequent"), and so do levels that are first seen in `transform`; if no level is
    infrequent, these are 0 everywhere. Missing is one more level if it was seen in `fit`, else like
    an unseen one. Where two of these are left, there is one output. A text column with another
    level in each row (more than `max_levels`) is an identifier and left out. Target-encoded
    outputs are shrunk means of y [3]_, minus their mean and divided by their standard deviation,
    and clipped as numbers are. As in scikit-learn, `fit_transform` gives the rows cross-fitted
    ones, and ``fit(X, y).transform(X)`` does not: never train on the latter.

    **Dates** are split into numbers, of which those that vary are encoded: the time in days, year,
    month, day, weekday (Monday is 0), hour, minute and second, as a clock in the column's time zone
    shows them. Durations and times of day are seconds.

    Columns with one value or none are left out. The outputs are first the scaled numbers, then all
    pieces, the indicators of missing numbers and of single values, the indicators of levels, and
    the target-encoded ones; `get_feature_names_out` names them.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn, Steinwart (2024), Better by default: strong pre-tuned MLPs and
       boosted trees on tabular data.
    .. [2] Gorishniy, Rubachev, Babenko (2022), On embeddings for numerical features in tabular deep
       learning.
    .. [3] Micci-Barreca (2001), A preprocessing scheme for high-cardinality categorical attributes.

    Examples
    --------
    >>> from fastbp import TableEncoder
    >>> X = [[23, "blue"], [38, "red"], [None, "red"], [61, "green"]] * 5
    >>> encoder = TableEncoder().fit(X)
    >>> encoder.summary()
    column  kind      outputs  what was found
    ------  --------  -------  ---------------------------
    x0      number          4  23 to 61; missing values
    x1      category        3  3 levels (blue, green, red)
    >>> encoder.get_feature_names_out().tolist()
    ['x0', 'x0[23, 38)', 'x0[38, 61)', 'x0 missing', 'x1=blue', 'x1=green', 'x1=red']
    >>> encoder.transform([[30.5, "red"], [None, "white"]]).astype(float).round(2)
    array([[-0.2,  0.5,  0. ,  0. ,  0. ,  0. ,  1. ],
           [ 0. ,  0. ,  0. ,  1. ,  0. ,  0. ,  0. ]])
    """

    __module__ = "fastbp"

    @explains_its_arguments
    def __init__(
        self,
        categorical_features: str | ArrayLike | None = "from_dtype",
        *,
        n_bins: int | str = "auto",
        encoding: str = "piecewise",
        max_levels: int = 20,
        min_frequency: int | float = 5,
        target_type: str = "auto",
        random_state: RandomState = 0,
    ) -> None:
        self.categorical_features = categorical_features
        self.n_bins = n_bins
        self.encoding = encoding
        self.max_levels = max_levels
        self.min_frequency = min_frequency
        self.target_type = target_type
        self.random_state = random_state

    # ------------------------------------------------------------------------------- learning

    def fit(self, X: Features, y: Targets = None) -> "TableEncoder":
        """Learn what the columns are, and how to encode them.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or None, default=None
            For the target encoding of categories with many levels; nothing else reads it. With
            several columns it is not used.

        Returns
        -------
        self : TableEncoder
        """
        self._fit(X, y, is_crossed=False)
        return self

    def fit_transform(self, X: Features, y: Targets = None) -> NDArray[np.float32]:
        """Learn from a table and encode it, with cross-fitted target encodings.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        encoded : float32 ndarray of shape (n_samples, n_outputs)
            Or a frame, after `set_output`.
        """
        return self._encode(self._fit_read(X, y))

    def transform(self, X: Features) -> NDArray[np.float32]:
        """Encode a table.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
            With the columns that `fit` saw, in their order.

        Returns
        -------
        encoded : float32 ndarray of shape (n_samples, n_outputs)
            Or a frame, after `set_output`.
        """
        return self._encode(self._read(X))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Names of the outputs, such as ``age``, ``age[18, 25)``, ``age missing``, ``city=Rome``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns; if X had names in `fit`, these.

        Returns
        -------
        names : ndarray of str objects of shape (n_outputs,)
        """
        plan = self._fitted_plan()
        names = [str(name) for name in _check_feature_names_in(self, input_features)]
        return np.array(plan.name_outputs(names), dtype=object)

    def summary(self) -> str:
        """Return a table of what each column is taken for.

        Returns
        -------
        summary : str
            An interactive session shows it as it prints.
        """
        self._fitted_plan()
        rows = [(c.name, c.kind, str(c.n_outputs), c.describe()) for c in self.columns_]
        return Text(format_table(("column", "kind", "outputs", "what was found"), rows, "<<><"))

    # -------------------------------------------------------------- the two steps of encoding

    def _fit_read(self, X, y=None, counted=None):
        """Fit; return the compact form of X, with cross-fitted targets (`plan.ReadTable`).

        Target means are those of the rows `counted` (indices; None: all).
        """
        crossed = self._fit(X, y, is_crossed=True, counted=counted)
        read = self._read(X)
        read.targets = crossed
        return read

    def _read(self, X):
        """Return the compact form of a table, from which `_encode` makes any of its rows."""
        plan, state = self._fitted_plan(), vars(self)
        if (
            plan.takes_arrays
            and type(X) is np.ndarray
            and X.dtype.kind in "iuf"
            and X.ndim == 2
            and X.shape[1] == state["n_features_in_"]
            and len(X)
            and "feature_names_in_" not in state
        ):
            return plan.read_array(X)
        table = open_table(X)
        validate_data(self, table.source, reset=False, skip_check_array=True)
        return plan.read(table)

    def _encode(self, read, out=None):
        """Encode a compact form, or some rows of it (`read[rows]`), into `out` or a new array."""
        return self._fitted_plan().encode(read, out)

    # What `fit` learned, as plain values in place of these attributes, for `fastbp.save`.
    _learned_names = ("_plan", "columns_")

    def _describe_learned(self):
        """Describe in plain values what was learned; None before `fit`."""
        return describe_plan(self._plan) if "_plan" in vars(self) else None

    def _take_learned(self, described):
        """Be fitted as a description says; whatever it says is checked."""
        self._plan = plan_from(described)
        self.columns_ = self._plan.columns

    def _check_fitted(self):
        """Check what a saved encoder holds besides."""
        state, n_columns = vars(self), len(self._fitted_plan().columns)
        names = state.get("feature_names_in_")
        fits = names is None or (
            isinstance(names, np.ndarray)
            and names.shape == (n_columns,)
            and all(isinstance(name, str) for name in names.tolist())
        )
        if state.get("n_features_in_") != n_columns or not fits:
            raise ValueError(
                f"The fitted attributes n_features_in_ and feature_names_in_ must be those of "
                f"{n_columns} columns. Fit again."
            )

    def _fitted_plan(self):
        try:
            return vars(self)["_plan"]
        except KeyError:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet: call fit first."
            ) from None

    def _fit(self, X, y, *, is_crossed, counted=None):
        """Set the fitted attributes, or none of them; return cross-fitted targets, or None."""
        before = dict(vars(self))
        try:
            return self._learn(X, y, is_crossed, counted)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _learn(self, X, y, is_crossed, counted):
        settings = self._check_parameters()
        table = open_table(X)
        validate_data(self, table.source, skip_check_array=True)
        if y is not None:
            check_consistent_length(table.source, y)
        names = vars(self).get("feature_names_in_")
        plan, crossed = make_plan(
            table,
            settings,
            y,
            names=None if names is None else list(map(str, names)),
            is_category=self._find_categories(),
            is_crossed=is_crossed,
            counted=counted,
        )
        if not plan.n_outputs:
            raise ValueError(
                f"No column of X can be encoded: in the rows (n_samples = {table.n_rows}) each has "
                "one value or none, or is text with another value in each row."
            )
        self._plan, self.columns_ = plan, plan.columns
        return crossed

    def _check_parameters(self):
        values = self.get_params(deep=False)
        for name, rules in RULES.items():
            if not is_allowed(values[name], rules):
                raise refusal(f"{name!r} parameter of {type(self).__name__}", values[name], rules)
        return SimpleNamespace(**{name: plain(value) for name, value in values.items()})

    def _find_categories(self):
        """Mask of the columns that `categorical_features` names; None for "from_dtype"."""
        given = self.categorical_features
        if isinstance(given, str):
            return None
        mask = np.zeros(self.n_features_in_, bool)
        given = np.asarray([] if given is None else given)
        given = given.tolist()
        if not given:
            return mask
        if all(isinstance(entry, bool) for entry in given):
            if len(given) != len(mask):
                raise ValueError(
                    f"categorical_features is a mask of {len(given)} columns; X has {len(mask)}."
                )
            return np.array(given)
        if all(isinstance(entry, str) for entry in given):
            names = list(vars(self).get("feature_names_in_", []))
            if not names:
                raise ValueError(
                    "categorical_features names columns, but X has no names: give indices or a "
                    "mask of bool, or a data frame."
                )
            for name in given:
                if name not in names:
                    meant = find_name(name, names)
                    hint = f" Did you mean {meant!r}?" if meant else ""
                    raise ValueError(
                        f"categorical_features has {name!r}, which is no column of X.{hint}"
                    )
                mask[names.index(name)] = True
            return mask
        if not all(isinstance(entry, int) for entry in given):
            raise ValueError(
                f"categorical_features must hold only str, only int or only bool, got {given}."
            )
        if min(given) < 0 or max(given) >= len(mask):
            raise ValueError(
                f"categorical_features has indices beyond the {len(mask)} columns of X: {given}."
            )
        mask[given] = True
        return mask

    def __sklearn_is_fitted__(self):
        return "_plan" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags
