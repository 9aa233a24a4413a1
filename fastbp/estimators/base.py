"""BackpropClassifier and BackpropRegressor: parameters, fit, partial_fit, predict; no arithmetic.

What a call means is here; `_validation` checks what comes in, `training` trains, the engine
computes.  The file is long because both classes list and document every parameter, as
scikit-learn's conventions ask.
"""

import inspect
import time
from collections.abc import Sequence
from copy import deepcopy
from functools import cache, partial
from numbers import Real
from os import PathLike
from typing import Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from fastbp.activations import activations_for
from fastbp.data.best_constant import constant_scores, starts_as_drawn
from fastbp.data.features import (
    check_features,
    check_labels,
    check_sample_weight,
    check_targets,
    encode_indicators,
    encode_labels,
    find_classes,
    kind_of_target,
    refuse_dates,
    targets_as_given,
    unchanged_on_error,
)
from fastbp.data.held_out import prepare_held_out
from fastbp.data.problem import prepare
from fastbp.data.scaling import is_coarse, measure, narrow, restore, standardize
from fastbp.data.weights import find_class_weights
from fastbp.engine import FLOATS, get_engine, let_activations_raise, network
from fastbp.engine.parallel import thread_ceiling
from fastbp.estimators.annotations import (
    Activations,
    ClassWeight,
    Features,
    Floats,
    Labels,
    LayerSizes,
    LearningRate,
    LossLike,
    RandomState,
    Scoring,
    Solver,
    Targets,
    Weights,
)
from fastbp.estimators.attributes import network_of
from fastbp.estimators.parameters import (
    CLASSIFIER_PARAMETERS,
    REGRESSOR_PARAMETERS,
    check_parameters,
    dropout_rates,
)
from fastbp.losses import NAMED_LOSSES, Quantile, loss_for
from fastbp.messages import explains_its_arguments, find_parameter
from fastbp.optimizers import is_full_batch
from fastbp.tables import write_labels
from fastbp.training.callbacks import watch_tasks
from fastbp.training.causes import warn_of_kept_scale, warn_of_one_class
from fastbp.training.lbfgs import train_lbfgs
from fastbp.training.minibatches import HISTORY, Progress, train_stochastic
from fastbp.training.randomness import own_stream
from fastbp.training.resuming import recall
from fastbp.training.sameness import identify, identify_weights
from fastbp.training.scoring import Scorer, Validation, default_score, find_scorer, in_units
from fastbp.versions import __version__, refuse_newer


def _partial_fit_exists(estimator):
    """partial_fit is there for stochastic solvers (and for unknown ones, to name the error)."""
    if is_full_batch(estimator.solver):
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


class _BaseBackprop(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
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
    out_activation_: str
    loss_: float

    _has_one_class = False

    # Where scikit-learn's notebook display links to: the page of each class in the API reference.
    _doc_link_module = "fastbp"
    _doc_link_template = "https://fastbp.readthedocs.io/en/latest/api/fastbp.{estimator_name}.html"

    @classmethod
    @cache
    def _get_param_names(cls):
        """Remember what scikit-learn reads from the signature.

        A search asks four times a fit, which took 57 us each (November 2026).
        """
        return super()._get_param_names()

    @classmethod
    @cache
    def _get_default_params(cls):
        """Return the default of each parameter."""
        parameters = inspect.signature(cls.__init__).parameters
        return {name: parameters[name].default for name in cls._get_param_names()}

    def _store(self, parameters):
        """Keep the arguments of ``__init__`` under their names, untouched."""
        for name, value in parameters.items():
            if name != "self":
                setattr(self, name, value)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, as every estimator does; ``loss__delta`` sets one of an object's.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If there is no such parameter; names what was probably meant.
        """
        try:
            return super().set_params(**params)
        except ValueError as error:
            known = self._get_param_names()
            names = (name.partition("__")[0] for name in params)
            meant = [find_parameter(name, known) for name in names if name not in known]
            if not any(meant):
                raise
            raise ValueError(f"{error} Did you mean {next(filter(None, meant))}?") from None

    @explains_its_arguments
    def fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: Weights = None,
        *,
        X_val: Features | None = None,
        y_val: Targets | None = None,
        sample_weight_val: Weights = None,
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
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels (label indicators for multilabel), or real numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.
        X_val : array-like, data frame or sparse matrix of shape (n_val, n_features), default=None
            Validation data, with the features of X.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their labels, of classes that y has, or targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights in validation loss and score.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data, and if training diverges before an epoch was scored on
            validation data.  The estimator stays as it was.
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
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @with_callbacks
    def _fit(
        self, X, y, sample_weight, held_out=(None, None, None), *, incremental=False
    ):  # fmt: skip
        settings = check_parameters(self, self._parameter_rules)
        begun = time.perf_counter()
        settings.deadline = None if settings.max_time is None else begun + settings.max_time
        get_engine(settings.engine)  # where there is none, nothing else need be said
        fresh = not (self.__sklearn_is_fitted__() and (incremental or settings.warm_start))
        stochastic = not is_full_batch(settings.solver)
        tasks = None
        if not incremental:
            name = "epoch" if stochastic else "iteration"
            tasks = watch_tasks(self, X, y, sample_weight, settings.max_iter, name)
        problem = prepare(
            self, X, y, sample_weight, settings, fresh=fresh, incremental=incremental
        )  # fmt: skip
        held_out = prepare_held_out(self, held_out, problem)
        if fresh and incremental and problem.target_units:
            warn_of_kept_scale(problem)
        self._keep("_class_weights", problem.class_weights)
        settings.dropout = dropout_rates(settings.dropout, len(problem.layer_sizes) - 2)
        if problem.one_class and (fresh or not incremental):
            warn_of_one_class(self.classes_)
        settings.feature_names = getattr(self, "feature_names_in_", None)
        settings.classes = getattr(self, "classes_", None)
        past = dict(vars(self))
        for name in HISTORY:
            vars(self).pop(name, None)
        if tasks:
            tasks.set_description(partial(self._fitted_attributes, problem))
        validation, scorer = self._open_validation(problem, settings, held_out, y)
        seen = identify(
            problem, settings, held_out and held_out.problem, incremental=incremental
        )  # fmt: skip
        with own_stream(settings.random_state) as (random_state, bits):
            if fresh:
                progress = self._first_progress(problem, settings, random_state)
            else:
                progress = self._last_progress(problem, settings, past, seen, incremental)
            if stochastic:
                train_stochastic(
                    problem, settings, progress, (random_state, bits), incremental=incremental,
                    tasks=tasks, validation=validation, scorer=scorer,
                )  # fmt: skip
            else:
                progress.params = progress.params.astype(problem.dtype, copy=False)
                train_lbfgs(problem, settings, progress, tasks, validation)
        vars(self).update(self._fitted_attributes(problem, progress))
        if "problem" in seen or progress.holds_raw_weights:
            seen["weights"] = identify_weights(problem.engine, self.coefs_, self.intercepts_)
        self._keep("_seen", seen or None)
        if tasks:
            tasks.end(partial(deepcopy, progress))
        return self

    def _keep(self, name, value):
        """Set an attribute that is not there where it would be None."""
        vars(self).pop(name, None)
        if value is not None:
            setattr(self, name, value)

    def _find_class_weights(self, targets, incremental):
        """Weights of the classes for each column of targets; only classifiers have them."""

    def _open_validation(self, problem, settings, held_out, y):
        """Prepare to measure the data of the user's (or None), and the scorer of data to draw."""
        splits = held_out is None and settings.early_stopping
        function, scorer = find_scorer(settings.scoring), None
        if problem.one_class:
            function = None  # no score tells epochs apart
        if function is not None and (splits or held_out is not None):
            answers = self._answers(y, problem.targets) if splits else held_out.answers
            given = problem.given if splits else held_out.problem.given
            scorer = Scorer(function, partial(self._make_fitted, problem), given, answers)
        if held_out is None:
            return None, scorer
        return Validation(held_out.problem, settings.scoring, scorer), None

    def _make_fitted(self, problem, params):
        """Fitted copy of this estimator with these weights; it takes arrays, without names."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        vars(twin).pop("feature_names_in_", None)
        vars(twin).update(self._network_of(problem, params))
        return twin

    def _first_progress(self, problem, settings, random_state):
        """Start from drawn weights, and an output at the best constant."""
        layers = problem.layer_sizes
        rows = problem.activations or activations_for(settings.activation or "identity", 1)
        params = network.initial_params(
            layers, rows, random_state, problem.weights_dtype, settings.init
        )  # fmt: skip
        if not starts_as_drawn(problem.loss, settings.dtype):
            network.views(params, layers)[1][-1][:] = constant_scores(
                problem.loss, problem.targets, problem.sample_weight, layers[-1]
            )
        return Progress(params)

    def _last_progress(self, problem, settings, past, seen, incremental):
        """Start from what the last call reached, as far as it holds for this one."""
        self._check_same_layers(problem.layer_sizes)
        params = network.flatten(self.coefs_, self.intercepts_, problem.weights_dtype)
        resumes = settings.warm_start == "resume" and not incremental
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
                "warm_start=False to begin anew."
            )

    def _scale(self, targets, weights, dtype, fresh):
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
        >>> make_pipeline(features, LogisticRegression()).fit(X, y).score(X, y) > 0.9
        True
        """
        activations, _, dtype = self._raw_scores(X, hidden=True)
        return narrow(activations, dtype)

    @property
    def _n_features_out(self):
        """Number of columns of `transform`, for `get_feature_names_out`."""
        try:
            return len(network_of(vars(self))[0][-1])
        except ValueError as error:  # of a property only AttributeError means that there is none
            raise AttributeError(str(error)) from error

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
        finite = engine.predict_into(coefs, intercepts, activations, X, scores, n_threads)
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
        """Raise because not all predictions (n_samples, n_outputs) are finite in float64."""
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

    def _html_repr(self):
        """Display for notebooks: scikit-learn's, and the network drawn below it."""
        from fastbp.inspection.architecture import draw_network

        return super()._html_repr() + draw_network(self)

    def to_sklearn(self) -> Any:
        """Hand the fitted network over to scikit-learn's own MLP.

        Every tool made for it works then, such as converters.  Settings that only fastbp has
        (``dtype``, ``dropout``, ...) are left out: they do not change what a fitted network
        predicts.  Training can go on there, by `partial_fit` or ``warm_start=True``, with a fresh
        optimizer.

        Returns
        -------
        mlp : MLPClassifier or MLPRegressor
            Fitted, with a copy of the weights; its predictions are the same up to rounding.

        Raises
        ------
        ValueError
            For activations or losses that scikit-learn lacks; names them.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from fastbp import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = BackpropClassifier(tol=0.01, random_state=0).fit(X, y)
        >>> mlp = clf.to_sklearn()
        >>> type(mlp).__name__, bool((mlp.predict(X) == clf.predict(X)).all())
        ('MLPClassifier', True)
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
        >>> bool((clf.predict(X) == mlp.predict(X)).all())
        True
        """
        from fastbp.export.mlp import from_sklearn

        return from_sklearn(cls, mlp)

    def to_c(
        self, path: str | PathLike[str], *, name: str = "fastbp", X: ArrayLike | None = None
    ) -> None:
        """Write the fitted network as one C99 file that needs nothing but ``math.h``.

        It defines ``NAME_predict(const T *x, T *out)`` for one sample, with T as the dtype of the
        weights (float or double): regression values, or the probabilities of all classes, of which
        it returns the index of the predicted one.  Nothing is allocated.  Compiled with
        ``-DFASTBP_SELF_TEST`` it has a ``main`` that compares with stored predictions.

        Parameters
        ----------
        path : str or path-like
            File to write; an existing one is replaced.
        name : str, default="fastbp"
            Prefix of what the file defines; a C identifier.
        X : array-like of shape (n_samples, n_features), default=None
            Samples for the self-test (a few suffice); None draws 8 from a normal distribution.

        Raises
        ------
        ValueError
            For functions of yours and whatever else C source cannot hold; names it.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_iris
        >>> from fastbp import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = BackpropClassifier(tol=0.01, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.to_c(Path(folder) / "iris.c", name="iris", X=X[::20])
        ...     "int iris_predict(const float *x, float *out)" in (
        ...         Path(folder) / "iris.c"
        ...     ).read_text()
        True
        """
        from fastbp.export.c_source import write_c

        write_c(self, path, name=name, X=X)

    def __sklearn_is_fitted__(self):
        return "coefs_" in vars(self)

    def __getstate__(self):
        return {**super().__getstate__(), "_fastbp_version": __version__}

    def __setstate__(self, state):
        """Take the state of a pickle or copy; one of a newer fastbp would go wrong later.

        Parameters that it does not know, being older, have their defaults.
        """
        state = self._get_default_params() | dict(state)
        refuse_newer(
            state.pop("_fastbp_version", __version__), f"This pickled {type(self).__name__}"
        )
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class BackpropClassifier(ClassifierMixin, _BaseBackprop):
    """Neural network classifier, trained by backpropagation in compiled code.

    Minimises the log loss, or another, by stochastic gradient descent, Adam or L-BFGS. Parameters,
    methods and fitted attributes are those of :class:`~sklearn.neural_network.MLPClassifier`; with
    ``dtype=None`` and the same `random_state` a run reproduces it.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units of each hidden layer; ``()`` for none (a linear model).
    activation : {'identity', 'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'gelu', \
            'silu', 'mish', 'softplus'}, function, Activation or list, default='relu'
        Activation function of the hidden layers, or a list with one for each (their formulas and
        sources: :mod:`fastbp.activations`).  A function of yours
        is a scalar Python function ``f(z)``; Numba compiles it at the first fit (about a second)
        and differentiates it. :class:`~fastbp.Activation` holds one with settings.
    loss : {'log_loss', 'focal'}, object of fastbp.losses, function or Loss, default='log_loss'
        Cross-entropy of the softmax (multiclass) or logistic (binary, multilabel) output, or the
        focal loss of its probabilities. A name has default settings; an object has yours:
        :class:`LogLoss(label_smoothing=0.1) <fastbp.losses.LogLoss>`,
        :class:`Focal(gamma=1.0) <fastbp.losses.Focal>`. Or, for binary and multilabel targets, a
        scalar Python function ``g(y_true, raw)`` of yours, with `y_true` 0 or 1 and the score
        before the logistic function.
    solver : {'adam', 'adamw', 'lbfgs', 'lion', 'rmsprop', 'sgd'} or object, default='adam'
        'lbfgs' is scipy's L-BFGS-B over the full batch, always in float64; the others step
        minibatch by minibatch. The names 'sgd', 'adam' and 'adamw' take `momentum`, `beta_1`, ...
        from below and otherwise the defaults of their classes in :mod:`fastbp.optimizers`; an
        object of these, such as ``fastbp.optimizers.AdamW(weight_decay=0.1)``, has settings of its
        own.
    alpha : float, default=0.0001
        Strength of the L2 penalty; ``alpha |W|^2 / (2 n)`` is added to the loss of n samples, with
        every solver. The `weight_decay` of 'adamw' and 'lion' acts besides, outside the gradient.
    batch_size : int or 'auto', default='auto'
        Rows per minibatch; 'auto' is ``min(200, n_samples)``. Not used by 'lbfgs'.
    learning_rate : {'constant', 'invscaling', 'adaptive', 'cosine', 'linear', 'one_cycle', \
            'plateau'}, object or function, default='constant'
        Schedule of the learning rate. 'cosine', 'linear' and 'one_cycle' change it from step to
        step over the `max_iter` epochs, 'plateau' lowers it after epochs without improvement: with
        every solver but 'lbfgs', by the classes of :mod:`fastbp.schedules`, of which an object,
        such as ``fastbp.schedules.Cosine(warmup=0.05)``, has settings of its own. A function
        ``f(step, n_steps)`` gives what `learning_rate_init` is multiplied by in each step, counted
        from 0. With ``solver='sgd'`` only, as in scikit-learn: 'invscaling' divides
        `learning_rate_init` by ``(t_ + 1)^power_t`` after each epoch; 'adaptive' divides it by 5
        each time training would stop for lack of progress, until it is 1e-6.
    learning_rate_init : float, default=0.001
        Learning rate that the schedule starts from or, with a warm-up, rises to; not used by
        'lbfgs'.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Most epochs ('sgd', 'adam') or iterations ('lbfgs').
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.
    random_state : int, RandomState instance or None, default=None
        Draws initial weights, shuffles and validation set, exactly as scikit-learn draws them.
    tol : float, default=1e-4
        Improvement of the loss (or validation score) below which an epoch counts as none; for
        'lbfgs' the largest gradient at which it has converged.
    verbose : bool or int, default=False
        Whether to show the progress. True or 1: one live line in a terminal or notebook (epoch,
        loss, validation score, samples per second, time left); elsewhere a line after 1, 2, 5, 10,
        20, 50 ... epochs, at least one a minute, and after the last. From 2 on: every epoch, in
        scikit-learn's words.
    warm_start : bool or 'resume', default=False
        Whether `fit` starts from the weights of the last call: True with a fresh optimizer;
        'resume' with everything where the last call left it (last weights, optimizer, learning
        rate, order and shuffles, validation set), so that with an integer `random_state` two
        calls of 10 epochs are one of 20, bit for bit, also by way of a pickle. All of these calls
        need the setting (it keeps a number per sample), and data of the same length. An optimizer
        or a learning rate that is changed in between begins anew (one function as `learning_rate`
        is taken for another, which goes on at the step reached). So do best score, best weights,
        best loss, count of epochs without progress, held-out rows and (but for 'resume') curves
        wherever the data, the weights, the objective or `scoring` are not those of the last call:
        what was best on other data is not the best on these.
    momentum : float, default=0.9
        Momentum of ``solver='sgd'``, from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether ``solver='sgd'`` uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to set `validation_fraction` of the data aside, to stop when the score on it no
        longer improves, and to keep the weights that scored best ('sgd', 'adam'; with X_val and
        y_val given to `fit` instead of that part, also 'lbfgs').
    validation_fraction : float, default=0.1
        Share of the samples set aside with `early_stopping`; stratified
        by class in the binary case, as in scikit-learn.
    beta_1 : float, default=0.9
        Decay rate of the first moment of 'adam' and 'adamw', in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of the second moment of 'adam' and 'adamw', in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of this second moment, outside the bias correction.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement after which 'sgd' and 'adam' stop.
    max_fun : int, default=15000
        Most evaluations of the loss by 'lbfgs'.
    dtype : {'float32', 'float64'} or None, default='float32'
        Dtype of the arithmetic and of the weights, whatever the input; None follows X, as
        scikit-learn does. Predictions are float32 for float32 X, else float64.
    n_threads : int or None, default=None
        Most threads to use: None lets the engine decide, -1 is all cores. The result does not
        depend on it.
    engine : {'auto', 'cython', 'numba'}, default='auto'
        What computes: the compiled extension ('cython'), or code that Numba compiles when first
        used, in one thread. 'auto' is 'cython', or 'numba' where the extension was not built.
    class_weight : dict, 'balanced', list of dict or None, default=None
        Weight of each class, multiplied into the sample weights; 'balanced' is
        ``n_samples / (n_classes * count)`` (not in `partial_fit`, which sees parts); a list has one
        dict with the weights of 0 and 1 for each label of multilabel y. Classes that are not named
        weigh 1; names of classes that y lacks are allowed where all of its classes have one (a fold
        may lack some). The weights count in validation loss and score, too.
    init : {'auto', 'he', 'glorot', 'lecun'}, default='auto'
        How initial weights are drawn: 'auto' as scikit-learn draws them, with a gain that fits the
        activation; or uniform with the variance of He et al. (2015), Glorot & Bengio (2010) or
        LeCun et al. (1998), biases 0. The output's biases start at the best constant: log-odds
        (multiclass: logarithms) of the weighted class frequencies, of the smoothed ones with
        `label_smoothing`; with 'focal' the scores at which it is least; with functions of yours 0.
        Under ``dtype=None`` those of 'log_loss' start as drawn, as scikit-learn's do.
    dropout : float or list of float, default=0.0
        Probability with which a hidden unit is left out of a training step for a sample
        (Srivastava et al. 2014), for all hidden layers or one for each, in [0, 1). The other units
        are divided by one minus it; predictions and validation leave nothing out, `loss_curve_` is
        the loss with units left out. Not with 'lbfgs'.
    max_grad_norm : float or None, default=None
        Gradients, penalty included, with a larger norm over all weights and biases are scaled down
        to this norm before each step (Pascanu et al. 2013). Not with 'lbfgs'.
    ema_decay : float or None, default=None
        Predictions, `coefs_` and validation use an exponential moving average of the weights over
        the steps (Polyak & Juditsky 1992); training itself and `loss_curve_` do not. After step t
        the average moves by the share ``1 - min(ema_decay, (1 + t) / (10 + t))`` towards the
        weights, so it soon forgets where training began. `partial_fit` goes on from the weights
        and from the average; a new `fit` with `warm_start` from the average. Not with 'lbfgs'.
    scoring : str, callable or None, default=None
        What is measured on validation data, larger being better: None is accuracy, 'loss' the
        negative validation loss, else the name of one of scikit-learn's scorers or a callable
        ``scorer(estimator, X, y)``. It gets a fitted copy of the estimator and arrays, after each
        epoch, and `sample_weight` too where samples or classes have weights.
    max_time : float or None, default=None
        Seconds from the call of `fit` after which training ends, with a warning: 'sgd' and 'adam'
        after the step in hand (the epoch that is cut short counts in `n_iter_` and, with the mean
        loss of its samples so far, in `loss_curve_`), 'lbfgs' after the iteration in hand.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float or None
        Lowest loss of an epoch; None with `early_stopping`. Not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch. Not set by 'lbfgs'.
    validation_scores_ : list of float or None
        Accuracy (or what `scoring` says) on the validation data after each epoch; None without
        such.
    validation_loss_curve_ : list of float or None
        Loss on the validation data after each epoch, without the L2 penalty; None without such.
    best_validation_score_ : float or None
        Best of `validation_scores_`: that of the weights that `fit` kept.
    best_iter_ : int or None
        Its epoch, counted from 1 along `validation_scores_`.
    t_ : int
        Number of samples seen, ``epochs * n_samples``.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only where X had names that are all strings.
    n_iter_ : int
        Number of epochs (or iterations) of the last call.
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of outputs.
    out_activation_ : str
        Output transform: 'softmax' (multiclass) or 'logistic'.

    See Also
    --------
    BackpropRegressor : Neural network regressor.
    find_learning_rate : A rate to begin with.

    Notes
    -----
    Callbacks of :mod:`sklearn.callback` (``set_callbacks``) see `fit` as a task and each epoch
    ('lbfgs': iteration) as a subtask: ``ProgressBar`` and ``ScoringMonitor`` work alone, in a
    pipeline and in a search. They get X, y and `sample_weight` as given to `fit`; the
    `fitted_estimator` is a copy, made only for a callback that asks for it. If one asks to stop,
    training ends after the epoch, as on its own. `partial_fit` calls none.

    A fit warns once at its end (:class:`~sklearn.exceptions.ConvergenceWarning`): of limits that
    it reached before it converged, and if its loss is no better than that of a constant prediction
    and the cause can be named: a column of X with a root mean square above 30, an `alpha` or a
    weight decay that shrank the weights; or with stochastic solvers a learning rate at which the
    loss went up or nothing moved, a `dropout` that leaves hardly a unit, or a layer of rectified
    units of which nine tenths are 0 for every sample.

    If y has one class only, as in a fold that lacks the others, `fit` warns (RuntimeWarning) and
    that class is predicted, with a probability of 1 in the one column of `predict_proba`. The
    network is that of two classes; no score can tell its epochs apart, so `scoring` is not asked
    ('loss' is) and `validation_scores_` are 1.

    References
    ----------
    Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward networks.
    Kingma & Ba (2014), Adam: A method for stochastic optimization.
    Srivastava et al. (2014), Dropout: A simple way to prevent neural networks from overfitting.
    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks.
    Polyak & Juditsky (1992), Acceleration of stochastic approximation by averaging.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from fastbp import BackpropClassifier
    >>> X, y = make_classification(n_samples=200, random_state=0)
    >>> clf = BackpropClassifier(tol=0.01, random_state=0).fit(X, y)
    >>> clf.predict_proba(X).shape
    (200, 2)
    >>> clf.score(X, y) > 0.9
    True

    Regularised, with a learning rate that rises and falls:

    >>> from fastbp.optimizers import AdamW
    >>> from fastbp.schedules import Cosine
    >>> clf = BackpropClassifier(
    ...     solver=AdamW(weight_decay=0.05), learning_rate=Cosine(warmup=0.05), dropout=0.2,
    ...     max_grad_norm=1.0, ema_decay=0.99, tol=0.01, random_state=0,
    ... ).fit(X, y)
    >>> clf.score(X, y) > 0.9
    True
    """

    __module__ = "fastbp"

    _parameter_rules = CLASSIFIER_PARAMETERS

    classes_: NDArray[Any]

    @explains_its_arguments
    def __init__(
        self,
        hidden_layer_sizes: LayerSizes = (100,),
        activation: Activations = "relu",
        *,
        solver: Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: RandomState = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: LossLike = "log_loss",
        dtype: str | None = "float32",
        n_threads: int | None = None,
        engine: str = "auto",
        class_weight: ClassWeight = None,
        init: str = "auto",
        dropout: float | Sequence[float] = 0.0,
        max_grad_norm: float | None = None,
        ema_decay: float | None = None,
        scoring: Scoring = None,
        max_time: float | None = None,
    ) -> None:
        self._store(locals())

    @available_if(_partial_fit_exists)
    @explains_its_arguments
    def partial_fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: Weights = None,
        classes: ArrayLike | None = None,
        *,
        X_val: Features | None = None,
        y_val: Targets | None = None,
        sample_weight_val: Weights = None,
    ) -> Self:
        """Train one epoch on X and y, going on from the weights and optimizer of the last call.

        The optimizer is made by the first call (or by `fit`), with the settings of that time, and
        lives on, also in a copy or a pickle. A schedule over the steps runs over `max_iter` calls
        (of this size), then keeps its last rate. A function as `learning_rate` is no part of it:
        each call asks the present parameter, whatever it is by then. `max_time` is not looked at.
        The curves of validation data go on as long as these, the objective and `scoring` stay the
        same.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels; they need not contain every class.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.
        classes : array-like of shape (n_classes,), default=None
            All classes of all calls; required in the first call.
        X_val, y_val, sample_weight_val : as for `fit`, default=None
            Loss and score on these data are recorded; which weights are kept does not depend on it.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data, and if training diverges.  The estimator stays as it was.
        """
        with unchanged_on_error(self):
            self._check_partial_fit_classes(classes)
            held_out = X_val, y_val, sample_weight_val
            return self._fit(X, y, sample_weight, held_out, incremental=True)

    def _check_partial_fit_classes(self, classes):
        known = vars(self).get("classes_")
        if classes is None:
            if known is None and not self.__sklearn_is_fitted__():
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return
        found = find_classes(classes)
        if not len(found):
            raise ValueError(f"`classes` must name at least one class. Got {classes!r}.")
        if known is None:
            self.classes_ = found
        elif not np.array_equal(known, found):
            raise ValueError(
                f"`classes={write_labels(found)}` is not the same as on last call to partial_fit, "
                f"was: {write_labels(known)}"
            )

    def _check_y(self, y, n_samples, dtype, fresh, incremental):
        """Targets and loss of y; sets `classes_`, `n_outputs_` and the kind of target."""
        y, is_multilabel, is_sparse = check_labels(self, y, n_samples)
        if fresh:
            if not incremental:
                self.classes_ = np.arange(y.shape[1]) if is_multilabel else find_classes(y)
            self._target_kind = kind_of_target(is_multilabel, self.classes_)
            self._sparse_labels = is_sparse
        elif is_multilabel != (self._target_kind == "multilabel"):
            forms = ("labels of shape (n_samples,)", "label indicators of shape (n_samples, k)")
            raise ValueError(
                f"y holds {forms[is_multilabel]}, got shape {y.shape}, but the network has "
                f"{self._target_kind} targets: expected {forms[not is_multilabel]}. (A fit with "
                "warm_start=False begins anew, with any form of y.)"
            )
        self.n_outputs_ = 1 if self._target_kind == "binary" else len(self.classes_)
        if is_multilabel:
            targets = encode_indicators(y, self.classes_, dtype)
        else:
            complete = not (fresh or incremental)
            targets = encode_labels(y, self.classes_, dtype, complete=complete)
        return targets, loss_for(self.loss, self._target_kind)

    @property
    def _has_one_class(self):
        """Whether every sample that `fit` saw had the same label."""
        return self._target_kind == "binary" and len(self.classes_) == 1

    def _find_class_weights(self, targets, incremental):
        """Weights of the classes for each column of targets, or None."""
        if self.class_weight is None:
            return None
        return find_class_weights(
            self.class_weight,
            self.classes_,
            targets,
            multilabel=self._target_kind == "multilabel",
            incremental=incremental,
        )

    def _answers(self, y, targets):
        """Labels as scorers take them: of `classes_`, or indicators."""
        if self._target_kind == "multilabel":
            return targets.astype(np.int64)
        return self.classes_[targets[:, 0].astype(np.intp)]

    def predict(self, X: Features) -> Labels:
        """Predict classes.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Class labels; label indicators (sparse if they were in `fit`) for multilabel.
        """
        scores, _, _ = self._raw_scores(X)
        if self._target_kind == "multiclass":
            return self.classes_[scores.argmax(axis=1)]
        if self._target_kind == "binary":  # clip: where there is one class, it is predicted
            return self.classes_.take((scores[:, 0] > 0).astype(np.intp), mode="clip")
        labels = (scores > 0).astype(np.int64)
        if self._sparse_labels:
            as_matrix = get_config().get("sparse_interface") == "spmatrix"
            return (scipy.sparse.csr_matrix if as_matrix else scipy.sparse.csr_array)(labels)
        return labels

    def predict_proba(self, X: Features) -> Floats:
        """Probability of each class.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`; rows sum to 1 except for multilabel. float32 for float32
            X, else float64 (``dtype=None``: as scikit-learn).

        Raises
        ------
        ValueError
            If the network's scores are beyond the range of float64.
        """
        scores, engine, dtype = self._raw_scores(X)
        if self._has_one_class:
            return np.ones(scores.shape, dtype)
        scores = scores.astype(np.result_type(scores, dtype), copy=False)
        binary, second_is_larger = self._target_kind == "binary", scores > 0
        if binary:  # the smaller of two directly, the larger as its complement: no digits are lost
            np.negative(np.abs(scores, out=scores), out=scores)
        engine.transform_into(self.out_activation_, scores)
        if binary:
            pair = np.hstack([1 - scores, scores])
            scores = np.where(second_is_larger, pair[:, ::-1], pair)
        return scores.astype(dtype, copy=False)

    def predict_log_proba(self, X: Features) -> Floats:
        """Logarithm of the probability of each class, from the raw scores: never -inf.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`, with the dtype of `predict_proba`; float64 where float32
            cannot hold them.
        """
        scores, engine, dtype = self._raw_scores(X)
        if self._has_one_class:
            return np.zeros(scores.shape, dtype)
        scores = scores.astype(np.result_type(scores, dtype), copy=False)
        if self._target_kind == "binary":
            scores = np.hstack([-scores, scores])
        engine.transform_into(f"log_{self.out_activation_}", scores)
        return narrow(scores, dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class BackpropRegressor(RegressorMixin, _BaseBackprop):
    """Neural network regressor, trained by backpropagation in compiled code.

    Minimises the squared error, or another loss, by stochastic gradient descent, Adam or L-BFGS.
    Parameters, methods and fitted attributes are those of
    :class:`~sklearn.neural_network.MLPRegressor`; with ``dtype=None`` and the same `random_state`
    a run reproduces it (except for 'lbfgs' with several outputs, where scikit-learn's gradient
    does not belong to its loss).

    Parameters
    ----------
    loss : {'squared_error', 'absolute_error', 'huber', 'quantile', 'poisson', 'gamma', \
            'tweedie'}, object of fastbp.losses, function or Loss, default='squared_error'
        Half the squared error; the absolute error; Huber's loss; the pinball loss of a quantile
        (0.5); or half the Poisson (``y >= 0``), gamma (``y > 0``) or Tweedie (power 1.5, ``y >=
        0``) deviance with log link. A name has default settings; an object has yours:
        :class:`Huber(delta=2.0) <fastbp.losses.Huber>`, :class:`Quantile(0.9)
        <fastbp.losses.Quantile>` or ``Quantile([0.1, 0.5, 0.9])``, :class:`Tweedie(power=1.2)
        <fastbp.losses.Tweedie>`; a search varies ``loss__delta``. Or a scalar Python function
        ``g(y_true, raw)`` of yours, summed over the outputs; :class:`~fastbp.Loss` holds one with
        settings, such as its link.
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units of each hidden layer; ``()`` for none (a linear model).
    activation : {'identity', 'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'gelu', \
            'silu', 'mish', 'softplus'}, function, Activation or list, default='relu'
        Activation function of the hidden layers, or a list with one for each (their formulas and
        sources: :mod:`fastbp.activations`).  A function of yours
        is a scalar Python function ``f(z)``; Numba compiles it at the first fit (about a second)
        and differentiates it. :class:`~fastbp.Activation` holds one with settings.
    solver : {'adam', 'adamw', 'lbfgs', 'lion', 'rmsprop', 'sgd'} or object, default='adam'
        'lbfgs' is scipy's L-BFGS-B over the full batch, always in float64; the others step
        minibatch by minibatch. The names 'sgd', 'adam' and 'adamw' take `momentum`, `beta_1`, ...
        from below and otherwise the defaults of their classes in :mod:`fastbp.optimizers`; an
        object of these, such as ``fastbp.optimizers.AdamW(weight_decay=0.1)``, has settings of its
        own.
    alpha : float, default=0.0001
        Strength of the L2 penalty; ``alpha |W|^2 / (2 n)`` is added to the loss of n samples, with
        every solver. The `weight_decay` of 'adamw' and 'lion' acts besides, outside the gradient.
    batch_size : int or 'auto', default='auto'
        Rows per minibatch; 'auto' is ``min(200, n_samples)``. Not used by 'lbfgs'.
    learning_rate : {'constant', 'invscaling', 'adaptive', 'cosine', 'linear', 'one_cycle', \
            'plateau'}, object or function, default='constant'
        Schedule of the learning rate. 'cosine', 'linear' and 'one_cycle' change it from step to
        step over the `max_iter` epochs, 'plateau' lowers it after epochs without improvement: with
        every solver but 'lbfgs', by the classes of :mod:`fastbp.schedules`, of which an object,
        such as ``fastbp.schedules.Cosine(warmup=0.05)``, has settings of its own. A function
        ``f(step, n_steps)`` gives what `learning_rate_init` is multiplied by in each step, counted
        from 0. With ``solver='sgd'`` only, as in scikit-learn: 'invscaling' divides
        `learning_rate_init` by ``(t_ + 1)^power_t`` after each epoch; 'adaptive' divides it by 5
        each time training would stop for lack of progress, until it is 1e-6.
    learning_rate_init : float, default=0.001
        Learning rate that the schedule starts from or, with a warm-up, rises to; not used by
        'lbfgs'.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Most epochs ('sgd', 'adam') or iterations ('lbfgs').
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.
    random_state : int, RandomState instance or None, default=None
        Draws initial weights, shuffles and validation set, exactly as scikit-learn draws them.
    tol : float, default=1e-4
        Improvement of the loss (or validation score) below which an epoch counts as none; for
        'lbfgs' the largest gradient at which it has converged.
    verbose : bool or int, default=False
        Whether to show the progress. True or 1: one live line in a terminal or notebook (epoch,
        loss, validation score, samples per second, time left); elsewhere a line after 1, 2, 5, 10,
        20, 50 ... epochs, at least one a minute, and after the last. From 2 on: every epoch, in
        scikit-learn's words.
    warm_start : bool or 'resume', default=False
        Whether `fit` starts from the weights of the last call: True with a fresh optimizer;
        'resume' with everything where the last call left it (last weights, optimizer, learning
        rate, order and shuffles, validation set), so that with an integer `random_state` two
        calls of 10 epochs are one of 20, bit for bit, also by way of a pickle. All of these calls
        need the setting (it keeps a number per sample), and data of the same length. An optimizer
        or a learning rate that is changed in between begins anew (one function as `learning_rate`
        is taken for another, which goes on at the step reached). So do best score, best weights,
        best loss, count of epochs without progress, held-out rows and (but for 'resume') curves
        wherever the data, the weights, the objective or `scoring` are not those of the last call:
        what was best on other data is not the best on these.
    momentum : float, default=0.9
        Momentum of ``solver='sgd'``, from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether ``solver='sgd'`` uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to set `validation_fraction` of the data aside, to stop when the score on it no
        longer improves, and to keep the weights that scored best ('sgd', 'adam'; with X_val and
        y_val given to `fit` instead of that part, also 'lbfgs').
    validation_fraction : float, default=0.1
        Share of the samples set aside with `early_stopping`.
    beta_1 : float, default=0.9
        Decay rate of the first moment of 'adam' and 'adamw', in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of the second moment of 'adam' and 'adamw', in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of this second moment, outside the bias correction.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement after which 'sgd' and 'adam' stop.
    max_fun : int, default=15000
        Most evaluations of the loss by 'lbfgs'.
    dtype : {'float32', 'float64'} or None, default='float32'
        Dtype of the arithmetic and of the weights, whatever the input; None follows X, as
        scikit-learn does. Predictions are float32 for float32 X, else float64.
    n_threads : int or None, default=None
        Most threads to use: None lets the engine decide, -1 is all cores. The result does not
        depend on it.
    engine : {'auto', 'cython', 'numba'}, default='auto'
        What computes: the compiled extension ('cython'), or code that Numba compiles when first
        used, in one thread. 'auto' is 'cython', or 'numba' where the extension was not built.
    init : {'auto', 'he', 'glorot', 'lecun'}, default='auto'
        How initial weights are drawn: 'auto' as scikit-learn draws them, with a gain that fits the
        activation; or uniform with the variance of He et al. (2015), Glorot & Bengio (2010) or
        LeCun et al. (1998), biases 0. The output's biases start at the best constant: the
        weighted mean of y, its logarithm with 'poisson', 'gamma' and 'tweedie', the median or the
        quantiles with 'absolute_error' and 'quantile', between mean and median with 'huber'; with
        functions of yours at 0. Under ``dtype=None`` those of 'squared_error' and 'poisson' start
        as drawn, as scikit-learn's do.
    dropout : float or list of float, default=0.0
        Probability with which a hidden unit is left out of a training step for a sample
        (Srivastava et al. 2014), for all hidden layers or one for each, in [0, 1). The other units
        are divided by one minus it; predictions and validation leave nothing out, `loss_curve_` is
        the loss with units left out. Not with 'lbfgs'.
    max_grad_norm : float or None, default=None
        Gradients, penalty included, with a larger norm over all weights and biases are scaled down
        to this norm before each step (Pascanu et al. 2013). Not with 'lbfgs'.
    ema_decay : float or None, default=None
        Predictions, `coefs_` and validation use an exponential moving average of the weights over
        the steps (Polyak & Juditsky 1992); training itself and `loss_curve_` do not. After step t
        the average moves by the share ``1 - min(ema_decay, (1 + t) / (10 + t))`` towards the
        weights, so it soon forgets where training began. `partial_fit` goes on from the weights
        and from the average; a new `fit` with `warm_start` from the average. Not with 'lbfgs'.
    scoring : str, callable or None, default=None
        What is measured on validation data, larger being better: None is R2, 'loss' the
        negative validation loss, else the name of one of scikit-learn's scorers or a callable
        ``scorer(estimator, X, y)``. It gets a fitted copy of the estimator and arrays, after each
        epoch, and `sample_weight` too where samples or classes have weights.
    max_time : float or None, default=None
        Seconds from the call of `fit` after which training ends, with a warning: 'sgd' and 'adam'
        after the step in hand (the epoch that is cut short counts in `n_iter_` and, with the mean
        loss of its samples so far, in `loss_curve_`), 'lbfgs' after the iteration in hand.
    scale_targets : bool, default=False
        Whether to standardise y inside: the network is trained on targets of mean 0 and variance 1
        (each output; with the sample weights), and predictions come back on the original scale.
        Learning rate, `tol` and `alpha` are meant for such targets: without it the differences in a
        y of thousands are out of reach of Adam's small steps, and a y of thousandths ends training
        at `tol` before anything is learned. y may be of any size that float64 holds. Weights,
        `loss_` and `loss_curve_` belong to the scaled problem; scores do not change. `partial_fit`
        and `warm_start` keep the scale of the first call. Not for losses with a link, such as
        'poisson'.

    Attributes
    ----------
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float or None
        Lowest loss of an epoch; None with `early_stopping`. Not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch. Not set by 'lbfgs'.
    validation_scores_ : list of float or None
        What `scoring` says, by default what `score` gives, on the validation data after each
        epoch; None without such.
    validation_loss_curve_ : list of float or None
        Loss on the validation data after each epoch, without the L2 penalty; None without such.
    best_validation_score_ : float or None
        Best of `validation_scores_`: that of the weights that `fit` kept.
    best_iter_ : int or None
        Its epoch, counted from 1 along `validation_scores_`.
    t_ : int
        Number of samples seen, ``epochs * n_samples``.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only where X had names that are all strings.
    n_iter_ : int
        Number of epochs (or iterations) of the last call.
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of outputs: of targets, or of quantiles with a list of them.
    out_activation_ : str
        Output transform: 'identity'; 'exp' with the losses 'poisson', 'gamma' and 'tweedie';
        'cumulative_softplus' with a list of quantiles, where the first raw score is the lowest
        quantile and ``softplus`` of each other one is added to the quantile before.
    target_mean_, target_scale_ : float64 ndarray of shape (n_outputs,)
        What y was standardised with; only with `scale_targets`. A constant output has scale 1.

    See Also
    --------
    BackpropClassifier : Neural network classifier.
    find_learning_rate : A rate to begin with.

    Notes
    -----
    Callbacks of :mod:`sklearn.callback` (``set_callbacks``) see `fit` as a task and each epoch
    ('lbfgs': iteration) as a subtask: ``ProgressBar`` and ``ScoringMonitor`` work alone, in a
    pipeline and in a search. They get X, y and `sample_weight` as given to `fit`; the
    `fitted_estimator` is a copy, made only for a callback that asks for it. If one asks to stop,
    training ends after the epoch, as on its own. `partial_fit` calls none.

    A fit warns once at its end (:class:`~sklearn.exceptions.ConvergenceWarning`): of limits that
    it reached before it converged, and if its loss is no better than that of a constant prediction
    and the cause can be named: a column of X with a root mean square above 30, a y with a standard
    deviation outside of 0.1 to 10 (or a large mean, where the output does not start there), an
    `alpha` or a weight decay that shrank the weights; or with stochastic solvers a learning rate at
    which the loss went up or nothing moved, a `dropout` that leaves hardly a unit, or a layer of
    rectified units of which nine tenths are 0 for every sample.

    References
    ----------
    Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward networks.
    Kingma & Ba (2014), Adam: A method for stochastic optimization.
    Srivastava et al. (2014), Dropout: A simple way to prevent neural networks from overfitting.
    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks.
    Polyak & Juditsky (1992), Acceleration of stochastic approximation by averaging.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.preprocessing import scale
    >>> from fastbp import BackpropRegressor
    >>> X, y = make_regression(n_samples=200, n_features=10, random_state=0)
    >>> reg = BackpropRegressor(solver="lbfgs", tol=0.01, random_state=0).fit(X, scale(y))
    >>> reg.predict(X[:3]).shape
    (3,)
    >>> reg.score(X, scale(y)) > 0.9
    True

    The same with y as it came, watched by a callback:

    >>> from sklearn.callback import ScoringMonitor
    >>> monitor = ScoringMonitor(scoring="r2")
    >>> reg = BackpropRegressor(solver="lbfgs", tol=0.01, scale_targets=True, random_state=0)
    >>> reg.set_callbacks(monitor).fit(X, y).score(X, y) > 0.9
    True
    >>> monitor.get_logs().data[-1]["task_name"]
    'iteration'
    """

    __module__ = "fastbp"

    _parameter_rules = REGRESSOR_PARAMETERS

    @explains_its_arguments
    def __init__(
        self,
        loss: LossLike = "squared_error",
        hidden_layer_sizes: LayerSizes = (100,),
        activation: Activations = "relu",
        *,
        solver: Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: RandomState = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dtype: str | None = "float32",
        n_threads: int | None = None,
        engine: str = "auto",
        init: str = "auto",
        dropout: float | Sequence[float] = 0.0,
        max_grad_norm: float | None = None,
        ema_decay: float | None = None,
        scoring: Scoring = None,
        max_time: float | None = None,
        scale_targets: bool = False,
    ) -> None:
        self._store(locals())

    @available_if(_partial_fit_exists)
    @explains_its_arguments
    def partial_fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: Weights = None,
        *,
        X_val: Features | None = None,
        y_val: Targets | None = None,
        sample_weight_val: Weights = None,
    ) -> Self:
        """Train one epoch on X and y, going on from the weights and optimizer of the last call.

        The optimizer is made by the first call (or by `fit`), with the settings of that time, and
        lives on, also in a copy or a pickle. A schedule over the steps runs over `max_iter` calls
        (of this size), then keeps its last rate. A function as `learning_rate` is no part of it:
        each call asks the present parameter, whatever it is by then. `max_time` is not looked at.
        The curves of validation data go on as long as these, the objective and `scoring` stay the
        same.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.
        X_val, y_val, sample_weight_val : as for `fit`, default=None
            Loss and score on these data are recorded; which weights are kept does not depend on it.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data, and if training diverges.  The estimator stays as it was.
        """
        with unchanged_on_error(self):
            held_out = X_val, y_val, sample_weight_val
            return self._fit(X, y, sample_weight, held_out, incremental=True)

    def _check_y(self, y, n_samples, dtype, fresh, incremental):
        """Targets and loss of y; sets `n_outputs_`."""
        loss = loss_for(self.loss, "real")
        given = np.float64 if self.scale_targets else dtype
        targets = check_targets(self, y, n_samples, given, loss)
        self.n_outputs_ = len(loss.hyper) if loss.target == "shared" else targets.shape[1]
        return targets, loss

    def _scale(self, targets, weights, dtype, fresh):
        """Standardised targets with `scale_targets`; sets `target_mean_` and `target_scale_`."""
        state = vars(self)
        if fresh:
            state.pop("target_mean_", None)
            state.pop("target_scale_", None)
        elif self.scale_targets != ("target_scale_" in state):
            raise ValueError(
                f"Training goes on with a network that was begun with scale_targets="
                f"{'target_scale_' in state}, but now scale_targets={self.scale_targets}. Set it "
                "back, or call fit with warm_start=False to begin anew."
            )
        if not self.scale_targets:
            return targets
        if fresh:
            self.target_mean_, self.target_scale_ = measure(targets, weights)
        return standardize(targets, self.target_mean_, self.target_scale_, dtype)

    def _answers(self, y, targets):
        """Targets as scorers take them: as given."""
        return targets_as_given(y)

    def predict(self, X: Features) -> Floats:
        """Predict target values.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            float32 for float32 X, else float64 (``dtype=None``: as scikit-learn); float64 also
            where float32 cannot hold them. One column for each quantile with a list of quantiles
            as loss.

        Raises
        ------
        ValueError
            If float64 cannot hold them either.
        """
        predictions, engine, dtype = self._raw_scores(X)
        link, state = self.out_activation_, vars(self)
        if link != "identity" or "target_scale_" in state:  # numbers leave the range of the scores
            predictions = predictions.astype(np.float64)
            engine.transform_into(link, predictions)
            if "target_scale_" in state:
                mean, scale = self.target_mean_, self.target_scale_
                predictions = restore(predictions, mean, scale)
                dtype = np.float64 if is_coarse(mean, scale).any() else dtype
            if not engine.all_finite(predictions):
                self._refuse(predictions)
        predictions = narrow(predictions, dtype)
        one_column = predictions.shape[1] == 1 and self.out_activation_ != "cumulative_softplus"
        return predictions.ravel() if one_column else predictions

    def score(self, X: Features, y: Targets, sample_weight: Weights = None) -> float:
        """Score the predictions: R2, or the D2 of the loss.

        D2 is the share of the loss that predicting a constant (the mean of y, or its quantile)
        leaves and the network takes away: 1 is perfect, R2 is that of the squared error. The
        quantile losses have the D2 of the pinball loss (a list: the mean over its quantiles),
        'gamma' and 'tweedie' that of their deviance; 'squared_error', 'absolute_error', 'huber',
        functions of yours and 'poisson' have R2, as scikit-learn's MLPRegressor.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If y is not what the loss needs.
        """
        loss = loss_for(self.loss, "real")
        y_pred = self.predict(X)
        if loss.metric[0] == "r2":
            refuse_dates(y, "y")
            refuse_dates(sample_weight, "sample_weight")
            y = targets_as_given(y)
            if y.shape == y_pred.shape:  # else r2_score says so
                y, y_pred = in_units(y, y_pred)
            return r2_score(y, y_pred, sample_weight=sample_weight)
        y_true = check_targets(self, y, len(y_pred), np.float64, loss)
        weights = check_sample_weight(self, sample_weight, len(y_pred), np.float64)
        return default_score(loss, y_true, y_pred.reshape(len(y_pred), -1), weights)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        loss = NAMED_LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        many = isinstance(loss, Quantile) and not isinstance(loss.quantile, Real)
        tags.target_tags.multi_output = not many
        tags.target_tags.positive_only = getattr(loss, "target_min", None) == 0.0
        return tags
