"""What both estimators share: `fit` and what it is made of, raw scores, the way in and out.

What a call means is here; `data` checks what comes in, `training` trains, the engine computes.
"""

from functools import partial
from os import PathLike
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils.validation import check_is_fitted

from fastbp.activations import activations_for
from fastbp.data.best_constant import starts_as_drawn
from fastbp.data.features import check_features, physical_memory
from fastbp.data.held_out import NOTHING
from fastbp.data.scaling import narrow
from fastbp.engine import FLOATS, get_engine, let_activations_raise, network
from fastbp.engine.parallel import thread_ceiling
from fastbp.engine.precision import for_rows
from fastbp.estimators.annotations import (
    Features,
    Floats,
    Targets,
    Weights,
)
from fastbp.estimators.attributes import (
    check_attributes,
    check_numbers,
    network_of,
    unchanged_on_error,
)
from fastbp.estimators.base_parameters import BaseParameters
from fastbp.estimators.fitting import OpenFit
from fastbp.estimators.parameters import check_parameters
from fastbp.messages import explains_its_arguments
from fastbp.optimizers import is_full_batch, optimizer_for
from fastbp.training.progress import Progress
from fastbp.training.resuming import recall
from fastbp.training.scoring import Scorer, find_scorer
from fastbp.training.snapshots import Snapshot
from fastbp.training.streamed import open_validation


def partial_fit_exists(estimator):
    """partial_fit is there for stochastic solvers (and for unknown ones, to name the error)."""
    if is_full_batch(estimator.solver):
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


class BaseBackprop(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseParameters
):
    """What both estimators share.

    They are transformers as well, as scikit-learn's LinearDiscriminantAnalysis is: `transform`,
    `fit_transform`, `get_feature_names_out` and `set_output` pass all of its estimator checks.
    """

    coefs_: list[Floats]
    intercepts_: list[Floats]
    n_features_in_: int
    n_iter_: int
    n_layers_: int
    n_outputs_: int
    matmul_precision_: str
    out_activation_: str
    loss_: float

    _has_one_class = False
    _n_members: int | None = None  # of an ensemble in one network: see `tabular.networks`
    _calibrates = False  # whether held-out samples set the scale of the scores, too
    _continues = None  # its features that go on where the one before ended: see `tabular.runs`
    _parts = None  # rows to train on and rows to hold out, instead of a draw
    _asked_to_stop = None  # an event that ends training after the epoch in hand

    @explains_its_arguments
    def fit(
        self,
        X: Features,
        y: Targets = None,
        sample_weight: Weights = None,
        *,
        X_val: Features | None = None,
        y_val: Targets | None = None,
        sample_weight_val: Weights = None,
        snapshot: Snapshot | str | PathLike[str] | None = None,
    ) -> Self:
        """Train the network on X and y.

        With `X_val` and `y_val` loss and score on these data are recorded after each epoch, and the
        weights of the best epoch are kept. With ``early_stopping=True`` they replace the part that
        would be set aside, and end training; with False nothing stops for their sake.

        Training that diverges after an epoch was scored, on these or on rows set aside, ends with a
        warning and keeps the best epoch's weights; that epoch's score is NaN, and its loss is not
        finite.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data; or a source of :mod:`fastbp.streams`, which has y and weights itself, for
            data larger than memory.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels (label indicators for multilabel), or real numbers. None for sources alone.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.
        X_val : array-like, data frame or sparse matrix of shape (n_val, n_features), default=None
            Validation data, with the features of X; or a source.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their labels, of classes that y has, or targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights in validation loss and score.
        snapshot : path or fastbp.Snapshot, default=None
            File that keeps the state of the fit, every 5 s or as the Snapshot says: after a crash
            the same call goes on from there, bit for bit; once the fit is finished, it returns its
            model. Not with 'lbfgs' or a RandomState of yours.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data, and if training diverges before an epoch was scored on
            validation data; also for a snapshot that is damaged, or of another call or machine.
            The estimator stays as it was.
        SourceError
            For data of a source that cannot be read or used; names file, row and column.  Where
            steps were made before, the estimator keeps the model so far.
            What a scorer, callback or function of yours raises arrives as it is.

        Notes
        -----
        In a pipeline the validation data must pass through the steps before. With metadata routing
        three lines do it::

            sklearn.set_config(enable_metadata_routing=True)
            net = BackpropClassifier(early_stopping=True).set_fit_request(X_val=True, y_val=True)
            Pipeline([("scale", StandardScaler()), ("net", net)], transform_input=["X_val"]).fit(
                X, y, X_val=X_val, y_val=y_val
            )
        """
        failures: list[Exception] = []
        with unchanged_on_error(self):
            validation = X_val, y_val, sample_weight_val
            self._fit(X, y, sample_weight, validation, snapshot=snapshot, failures=failures)
        if failures:  # of a source; the model so far is kept
            raise failures[0]
        return self

    @with_callbacks
    def _fit(
        self, X, y, sample_weight, validation=NOTHING, *, incremental=False, snapshot=None,
        failures=None,
    ):  # fmt: skip
        fit = OpenFit(
            self, X, y, sample_weight, validation, incremental=incremental, snapshot=snapshot
        )
        fit.advance()
        fit.finish()
        if fit.failure is not None:
            failures.append(fit.failure)
        return self

    def _check_parameters(self):
        """Check all parameters; return them by name."""
        return check_parameters(self, self._parameter_rules)

    def _settle_weights(self, *, goes_on, trains=False):
        """Check the fitted attributes, also those to train on from; return the dtype of weights.

        Inspection may look at weights that are not finite, which cannot be trained.
        """
        self.coefs_, self.intercepts_ = check_attributes(vars(self), goes_on=goes_on)
        if trains:
            check_numbers(vars(self), self.coefs_, self.intercepts_)
        return self.coefs_[0].dtype

    def _keep(self, name, value):
        """Set an attribute that is not there where it would be None."""
        vars(self).pop(name, None)
        if value is not None:
            setattr(self, name, value)

    def _find_class_weights(self, targets, *, incremental, counts=None):
        """Weights of the classes for each column of targets; only classifiers have them."""

    def _open_validation(self, problem, y):
        """Prepare to measure the data of the user's (or None), and the scorer of data to draw."""
        held_out, scoring = problem.held_out, problem.settings.scoring
        splits = held_out is None and problem.settings.early_stopping
        function, scorer = find_scorer(scoring), None
        if function is not None and (splits or held_out is not None):
            answers = self._answers(y, problem.targets) if splits else held_out.answers
            given = problem.given if splits else held_out.problem.given
            scorer = Scorer(function, partial(self._make_fitted, problem), given, answers)
        if held_out is None:
            return None, scorer
        return open_validation(held_out.problem, scoring, scorer), None

    def _make_fitted(self, problem, params):
        """Fitted copy of this estimator with these weights; it takes arrays, without names."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        vars(twin).pop("feature_names_in_", None)
        vars(twin).update(self._network_of(problem, params))
        return twin

    def _first_progress(self, problem, random_state):
        """Start from drawn weights, and an output at the best constant."""
        layers, settings = problem.layer_sizes, problem.settings
        _check_memory(problem)
        entries = problem.activations or activations_for(settings.activation or "identity", 1)
        params = network.initial_params(
            layers, entries, random_state, problem.weights_dtype, settings.init, problem.n_members
        )  # fmt: skip
        if not starts_as_drawn(problem.loss, settings.dtype):
            n_outputs = layers[-1]  # biases of the output come last, of one layer or of many
            biases = params[-(problem.n_members or 1) * n_outputs :].reshape(-1, n_outputs)
            most = np.finfo(params.dtype).max  # targets beyond it have an error of their own
            biases[:] = np.clip(problem.best_constant(), -most, most)
        return Progress(params)

    def _last_progress(self, problem, past, seen, *, incremental):
        """Start from what the last call reached, as far as it holds for this one."""
        self._check_same_layers(problem.layer_sizes)
        params = network.flatten(self.coefs_, self.intercepts_, problem.weights_dtype)
        resumes = problem.settings.warm_start == "resume" and not incremental
        memory = recall(past, seen, problem.engine, resumes=resumes, incremental=incremental)
        return Progress.resumed(params, past, memory, from_last=resumes)

    def _training_dtype(self, given, weights=None):
        """Dtype of the arithmetic for X of dtype `given` and weights to go on from."""
        if self.dtype is not None:
            return self.dtype
        follows = given if weights is None else np.result_type(given, weights)
        return np.float32 if follows == np.float32 else np.float64

    def _check_same_layers(self, layers):
        fitted = network.layer_sizes_of(self.coefs_)
        if layers != fitted:
            raise ValueError(
                f"Training goes on with layers of sizes {fitted} (features, hidden, outputs), but "
                f"hidden_layer_sizes and the data ask for {layers}. Keep them, or call fit with "
                "warm_start=False to start again."
            )

    def _scale(self, targets, weights, dtype, *, fresh):
        """Targets in the units of the loss: as they are, but for a regressor that scales them."""
        return targets

    def _fitted_attributes(self, problem, progress):
        """Turn what training reached into fitted attributes."""
        return progress.attributes() | self._network_of(problem, progress.params)

    def _network_of(self, problem, params):
        """Return the attributes that make a network of these weights."""
        params = params.astype(problem.weights_dtype, copy=False)
        coefs, intercepts = network.views(params, problem.layer_sizes)
        return {
            "coefs_": coefs,
            "intercepts_": intercepts,
            "n_layers_": len(problem.layer_sizes),
            "out_activation_": problem.loss.output,
        }

    def transform(self, X: Features) -> Floats:
        """Activations of the last hidden layer: what the network has made of the features.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        activations : ndarray of shape (n_samples, n_units)
            Of the last hidden layer, ``coefs_[-1].shape[0]`` units, with the dtype of predictions:
            ``transform(X) @ coefs_[-1] + intercepts_[-1]`` are the raw scores.  With no hidden
            layer it is X.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from fastbp import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> features = BackpropClassifier((20, 4), tol=0.01, random_state=0)
        >>> features.fit_transform(X, y).shape
        (150, 4)
        >>> both = make_pipeline(features, LogisticRegression()).fit(X, y)
        >>> print(f"accuracy {both.score(X, y):.1f}")
        accuracy 0.9
        """
        activations, _, dtype = self._raw_scores(X, hidden=True)
        return narrow(activations, dtype)

    @property
    def _n_features_out(self):
        """Number of columns of `transform`, for `get_feature_names_out`."""
        if not self.__sklearn_is_fitted__():  # what check_is_fitted asks a property for
            raise AttributeError(f"This {type(self).__name__} is not fitted yet.")
        return len(network_of(vars(self))[0][-1])

    def _raw_scores(self, X, *, hidden=False):
        """Scores before the output transform, their engine, and the dtype of the output.

        Or, if `hidden`, the activations of the last hidden layer instead of the scores.  All are
        finite: what overflows float32 is computed again in float64.  Costs a few microseconds of
        Python for a plain array of the right dtype and width.
        """
        state = vars(self)
        if "coefs_" not in state:
            check_is_fitted(self)
        engine = get_engine(self.engine)
        coefs, intercepts = network_of(state, engine)
        X, given = check_features(
            self, X, partial(self._prediction_dtype, coefs[0].dtype), engine, reset=False
        )
        dtype = X.dtype
        activations = activations_for(self.activation, len(coefs) - 1)
        if hidden:
            coefs, intercepts = coefs[:-1], intercepts[:-1]
            if not coefs:
                return X.copy(), engine, given if given in FLOATS else np.float64
        if dtype != coefs[0].dtype:
            coefs = [weights.astype(dtype) for weights in coefs]
            intercepts = [biases.astype(dtype) for biases in intercepts]
        scores = np.empty((X.shape[0], coefs[-1].shape[1]), dtype)
        n_threads = 1 if len(scores) == 1 else thread_ceiling(self.n_threads)
        precision = for_rows(self.matmul_precision, len(scores))
        if precision != "highest" and is_full_batch(self.solver):
            precision = "highest"  # as its fit, though the weights that it leaves are float32
        finite = engine.predict_into(
            coefs, intercepts, activations, X, scores, n_threads, precision
        )
        if type(self.activation) is not str:
            let_activations_raise(engine, coefs, intercepts, activations, X, scores)
        if not finite:
            rows = ~np.isfinite(scores).all(axis=1)
            parts = coefs, intercepts
            coefs, intercepts = ([part.astype(np.float64) for part in array] for array in parts)
            wide, scores = np.empty((rows.sum(), scores.shape[1])), scores.astype(np.float64)
            X = X[rows].astype(np.float64)
            finite = engine.predict_into(coefs, intercepts, activations, X, wide, n_threads)
            scores[rows] = wide
            if not finite:
                self._refuse(scores)
        if self.dtype is not None:
            dtype = np.float32 if given == np.float32 else np.float64
        return scores, engine, dtype

    def _refuse(self, predictions):
        """Raise because not all predictions (n_samples, n_outputs) are finite in float64.

        Only now it is worth to look whether somebody edited a NaN into the weights.
        """
        check_numbers(vars(self), *network_of(vars(self)))
        row = int(np.flatnonzero(~np.isfinite(predictions).all(axis=1))[0])
        raise ValueError(
            f"{type(self).__name__} predicts values beyond the range of float64 (+-1.8e+308) for "
            f"row {row} of X. Look there for values far beyond those of the training data; or "
            "divide y by a constant before fitting."
        )

    def _prediction_dtype(self, weights, given):
        """Dtype of the arithmetic for weights and X of these dtypes (that of X @ W for None)."""
        if self.dtype is not None:
            return weights
        return np.float32 if np.result_type(given, weights) == np.float32 else np.float64

    def summary(self) -> str:
        """Describe the network: its layers with units, activations, shapes and parameters.

        Works before `fit` too; what only the data say is then "?".

        Returns
        -------
        summary : str
            A table in lines, which an interactive session shows as it prints.

        Raises
        ------
        ValueError
            If `hidden_layer_sizes` is not valid and the estimator is not fitted.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from fastbp import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = BackpropClassifier((16,), solver="lbfgs", random_state=0)
        >>> clf.fit(X, y).summary()  # doctest: +ELLIPSIS
        BackpropClassifier, 4-16-3: 131 parameters, float32, 0.512 KiB
        layer     units  activation  weights  biases  parameters
        --------  -----  ----------  -------  ------  ----------
        input         4
        hidden 1     16  relu        (4, 16)  (16,)           80
        output        3  softmax     (16, 3)  (3,)            51
        loss log_loss, solver lbfgs, loss 0... after ... iterations
        """
        from fastbp.inspection.architecture import summarize

        return summarize(self)

    def _get_params_html(self, *arguments, **keywords):
        """Give scikit-learn's display the table of parameters, and the network drawn below it.

        That display calls this for an estimator alone, and within a pipeline or search.
        """
        from fastbp.inspection.architecture import draw_network

        params = super()._get_params_html(*arguments, **keywords)
        write_table = params._repr_html_inner
        params._repr_html_inner = lambda: write_table() + draw_network(self)
        return params

    def to_sklearn(self) -> Any:
        """Hand the fitted network over to scikit-learn's own MLP.

        Every tool made for it works then, such as converters.  Settings that only fastbp has
        (``dtype``, ``dropout``, ...) are left out: they do not change what a fitted network
        predicts.  Training can go on there, by `partial_fit` or ``warm_start=True``, with a fresh
        optimizer.

        Returns
        -------
        mlp : MLPClassifier or MLPRegressor
            Fitted, with a copy of the weights; its predictions are the same up to rounding.  Those
            of the output are float64 with `scale_targets`, for they are in units of y.

        Raises
        ------
        ValueError
            For activations or losses that scikit-learn lacks; names them.  For a y that was scaled
            and is larger than about 1e300, or as small as 1e-300.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from fastbp import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = BackpropClassifier(tol=0.01, random_state=0).fit(X, y)
        >>> mlp = clf.to_sklearn()
        >>> print(mlp.predict_proba(X[:1]).round(1), clf.predict_proba(X[:1]).round(1))
        [[0.7 0.2 0.2]] [[0.7 0.2 0.2]]
        """
        from fastbp.export.mlp import to_sklearn

        return to_sklearn(self)

    @classmethod
    def from_sklearn(cls, mlp: Any) -> Self:
        """Take a network over that scikit-learn's MLP has fitted.

        Parameters
        ----------
        mlp : MLPClassifier or MLPRegressor
            Fitted.

        Returns
        -------
        estimator : estimator
            Fitted, with the same parameters, ``dtype=None`` (the dtype follows X, as there) and a
            copy of the weights.  Training can go on, with a fresh optimizer.

        Raises
        ------
        TypeError
            If `mlp` is not the MLP of the same kind.
        NotFittedError
            If it was not fitted.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> from fastbp import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> mlp = MLPClassifier(tol=0.01, random_state=0).fit(X, y)
        >>> clf = BackpropClassifier.from_sklearn(mlp)
        >>> print(mlp.predict_proba(X[:1]).round(1), clf.predict_proba(X[:1]).round(1))
        [[0.7 0.2 0.2]] [[0.7 0.2 0.2]]
        """
        from fastbp.export.mlp import from_sklearn

        return from_sklearn(cls, mlp)

    def to_onnx(
        self,
        path: str | PathLike[str],
        *,
        dtype: Literal["float32", "float64"] | None = None,
        options: dict[str, Any] | None = None,
        target_opset: int | None = None,
    ) -> str:
        """Write the fitted network as an ONNX file, which runtimes without Python load.

        The graph takes ``X`` of shape (n_samples, n_features), scaled as for training.  A
        classifier gives ``label`` and ``probabilities``, of shape (n_samples, n_classes); a
        regressor ``variable``.  It needs skl2onnx: ``pip install -e ".[onnx]"``.  A pipeline
        is converted by skl2onnx itself, see :func:`fastbp.onnx.register`.

        Parameters
        ----------
        path : str or path-like
            File to write; an existing one is replaced.
        dtype : {"float32", "float64"}, default=None
            Of X in the graph, and of its arithmetic; None takes that of the weights.
        options : dict, default=None
            skl2onnx's options of a classifier, such as ``{"nocl": True}``; None is
            ``{"zipmap": False}``, with which probabilities are one array.
        target_opset : int, default=None
            Version of ONNX's operators; None is the newest that skl2onnx knows.

        Returns
        -------
        written : str
            A line: the file, its size, and the names of the graph's inputs and outputs.

        Raises
        ------
        ImportError
            If skl2onnx is not installed.
        ValueError
            For functions of yours and whatever else ONNX cannot hold; names it.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_iris
        >>> from fastbp import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = BackpropClassifier(tol=0.01, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = clf.to_onnx(Path(folder) / "iris.onnx")
        >>> print(written)  # doctest: +ELLIPSIS
        /...iris.onnx: ... kB of ONNX, X -> label, probabilities
        """
        from fastbp.export.onnx import write_onnx

        return write_onnx(self, path, dtype=dtype, options=options, target_opset=target_opset)

    def to_c(
        self,
        path: str | PathLike[str],
        *,
        name: str = "fastbp",
        X: ArrayLike | None = None,
        force: bool = False,
    ) -> str:
        """Write the fitted network as one C99 file that needs nothing but ``math.h``.

        It defines ``NAME_predict(const T *x, T *out)`` for one sample, with T as the dtype of the
        weights (float or double): regression values (with `scale_targets` always double, for float
        is too coarse for a y with a large mean), or the probabilities of all classes, of which it
        returns the index of the predicted one.  Nothing is allocated.  Compiled with
        ``-DFASTBP_SELF_TEST`` it has a ``main`` that compares with stored predictions.

        Parameters
        ----------
        path : str or path-like
            File to write; an existing one is replaced.
        name : str, default="fastbp"
            Prefix of what the file defines; a C identifier.
        X : array-like of shape (n_samples, n_features), default=None
            Samples for the self-test (a few suffice); None draws 8 from a normal distribution.
        force : bool, default=False
            Whether to write a file above 20 MB (about 1.2 million float32 parameters), too.

        Returns
        -------
        written : str
            A line: the file and its size.

        Raises
        ------
        ValueError
            For functions of yours and whatever else C source cannot hold; names it.  For a network
            whose file would have more than 20 MB, without `force`.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_iris
        >>> from fastbp import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = BackpropClassifier(tol=0.01, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = clf.to_c(Path(folder) / "iris.c", name="iris", X=X[::20])
        ...     "int iris_predict(const float *x, float *out)" in (
        ...         Path(folder) / "iris.c"
        ...     ).read_text()
        True
        """
        from fastbp.export.c_source import write_c

        return write_c(self, path, name=name, X=X, force=force)

    def _check_fitted(self):
        """Check the fitted attributes, also those to train on from; for a saved model, too."""
        check_attributes(vars(self))

    def __sklearn_is_fitted__(self):
        return "coefs_" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _check_memory(problem):
    """Refuse a network that cannot be trained in the memory of this machine.

    Training holds weights, gradient and the optimizer's state; Linux hands memory out that it does
    not have, and ends the process when it is used.
    """
    settings, memory = problem.settings, physical_memory()
    n_params = network.count_params(problem.layer_sizes, problem.n_members)
    n_copies = 2 + optimizer_for(settings.solver, settings).n_slots
    n_bytes = n_copies * n_params * np.dtype(problem.weights_dtype).itemsize
    if memory is not None and n_bytes > memory:
        raise MemoryError(
            f"hidden_layer_sizes={settings.hidden_layer_sizes!r} makes {n_params:,} weights and "
            f"biases, whose training takes {n_bytes / 2**30:,.0f} GiB, more than the "
            f"{memory / 2**30:,.0f} GiB of this machine. Use smaller layers."
        )
