"""BackpropClassifier and BackpropRegressor: parameters, fit, partial_fit, predict; no arithmetic.

What a call means is here; `_validation` checks what comes in, `training` trains, the engine
computes.  The file is long because both classes list and document every parameter, as
scikit-learn's conventions ask.
"""

from collections.abc import Sequence
from functools import partial
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
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from fastbp import network
from fastbp._annotations import (
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
from fastbp._parameters import (
    CLASSIFIER_PARAMETERS,
    REGRESSOR_PARAMETERS,
    check_parameters,
    hidden_sizes,
)
from fastbp._validation import (
    FLOATS,
    check_features,
    check_labels,
    check_range,
    check_sample_weight,
    check_targets,
    encode_indicators,
    encode_labels,
    find_classes,
    kind_of_target,
    unchanged_on_error,
)
from fastbp.activations import activations_for
from fastbp.engine import get_engine, watch_formulas
from fastbp.lbfgs import train_lbfgs
from fastbp.losses import LOSSES, Loss, loss_for
from fastbp.optimizers import OPTIMIZERS
from fastbp.parallel import thread_ceiling
from fastbp.randomness import own_stream
from fastbp.training import HISTORY, Problem, Progress, train_stochastic


def _partial_fit_exists(estimator):
    """partial_fit is there for stochastic solvers (and for unknown ones, to name the error)."""
    row = OPTIMIZERS.get(estimator.solver) if isinstance(estimator.solver, str) else None
    if row is not None and not row.stochastic:
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


class _BaseBackprop(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
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

    def _store(self, parameters):
        """Keep the arguments of ``__init__`` under their names, untouched."""
        for name, value in parameters.items():
            if name != "self":
                setattr(self, name, value)

    def fit(self, X: Features, y: Targets, sample_weight: Weights = None) -> Self:
        """Train the network on X and y.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels (label indicators for multilabel), or real numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data, and if training diverges.  The estimator stays as it was.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X, y, sample_weight, *, incremental=False):
        settings = check_parameters(self, self._parameter_rules)
        engine = get_engine(settings.engine)
        fresh = not (self.__sklearn_is_fitted__() and (incremental or settings.warm_start))
        stochastic = OPTIMIZERS[settings.solver].stochastic
        old_dtype = None if fresh else self.coefs_[0].dtype
        choose_dtype = partial(self._training_dtype, weights=old_dtype)
        X, given = check_features(
            self, X, choose_dtype if stochastic else _float64, engine, reset=fresh
        )
        dtype = np.dtype(choose_dtype(given))
        if not stochastic:
            check_range(self, X, dtype)
        targets, loss = self._check_y(y, X.shape[0], X.dtype, fresh, incremental)
        weights = check_sample_weight(self, sample_weight, X.shape[0], X.dtype)

        layers = (self.n_features_in_, *hidden_sizes(settings.hidden_layer_sizes), self.n_outputs_)
        activations = activations_for(settings.activation, len(layers) - 2)
        problem = Problem(
            engine=engine,
            layer_sizes=layers,
            activations=activations,
            loss=loss,
            dtype=X.dtype,
            X=X,
            targets=targets,
            sample_weight=weights,
            n_threads=thread_ceiling(settings.n_threads),
            watch=watch_formulas(activations, loss, targets, X.dtype),
        )
        settings.feature_names = getattr(self, "feature_names_in_", None)
        with own_stream(settings.random_state) as (random_state, bits):
            progress = self._first_progress(problem, settings, dtype, random_state, fresh)
            if stochastic:
                stream = random_state, bits
                train_stochastic(problem, settings, progress, stream, incremental=incremental)
            else:
                progress.params = progress.params.astype(X.dtype, copy=False)
                train_lbfgs(problem, settings, progress)
                progress.params = progress.params.astype(dtype, copy=False)
        self._keep(problem, progress, fresh)
        return self

    def _first_progress(self, problem, settings, dtype, random_state, fresh):
        """Where training starts: drawn weights, or what the last call reached."""
        layers = problem.layer_sizes
        if fresh:
            rows = problem.activations or activations_for(settings.activation or "identity", 1)
            return Progress(network.initial_params(layers, rows, random_state, dtype))
        self._check_same_layers(layers)
        params = network.flatten(self.coefs_, self.intercepts_, dtype)
        return Progress.resumed(params, vars(self))

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

    def _keep(self, problem, progress, fresh):
        """Turn what training reached into fitted attributes."""
        state = vars(self)
        if fresh:
            for name in HISTORY:
                state.pop(name, None)
        state.update(progress.attributes())
        self.coefs_, self.intercepts_ = network.views(progress.params, problem.layer_sizes)
        self.n_layers_ = len(problem.layer_sizes)
        self.out_activation_ = problem.loss.output

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
        return activations.astype(dtype, copy=False)

    @property
    def _n_features_out(self):
        """Number of columns of `transform`, for `get_feature_names_out`."""
        return len(self.coefs_[-1])

    def _raw_scores(self, X, *, hidden=False):
        """Scores before the output transform, their engine, and the dtype of the output.

        Or, if `hidden`, the activations of the last hidden layer instead of the scores.  Costs a
        few microseconds of Python for a plain array of the right dtype and width.
        """
        state = vars(self)
        coefs, intercepts = state.get("coefs_"), state.get("intercepts_")
        if coefs is None:
            check_is_fitted(self)
        engine = get_engine(self.engine)
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
        engine.predict_into(coefs, intercepts, activations, X, scores, n_threads)
        if self.dtype is not None:
            dtype = np.float32 if given == np.float32 else np.float64
        return scores, engine, dtype

    def _prediction_dtype(self, weights, given):
        """Dtype of the arithmetic for weights and X of these dtypes (that of X @ W for None)."""
        if self.dtype is not None:
            return weights
        return np.float32 if np.result_type(given, weights) == np.float32 else np.float64

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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _float64(given):
    return np.float64


class BackpropClassifier(ClassifierMixin, _BaseBackprop):
    """Neural network classifier, trained by backpropagation in compiled code.

    Minimises the log-loss by stochastic gradient descent, Adam or L-BFGS. Parameters, methods and
    fitted attributes are those of :class:`~sklearn.neural_network.MLPClassifier`; with
    ``dtype=None`` and the same `random_state` a run reproduces it.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units of each hidden layer; ``()`` for none (a linear model).
    activation : {'identity', 'logistic', 'tanh', 'relu'}, function, Activation or list, \
            default='relu'
        Activation function of the hidden layers, or a list with one for each.  A function of yours
        is a scalar Python function ``f(z)``; Numba compiles it at the first fit (about a second)
        and differentiates it. :class:`~fastbp.Activation` holds one with settings.
    loss : 'log_loss', function or Loss, default='log_loss'
        Cross-entropy of the softmax (multiclass) or logistic (binary, multilabel) output; or, for
        binary and multilabel targets, a scalar Python function ``g(y_true, raw)`` of yours, with
        `y_true` 0 or 1 and the score before the logistic function.
    solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
        'adam' and 'sgd' step minibatch by minibatch; 'lbfgs' is scipy's L-BFGS-B over the full
        batch, always in float64.
    alpha : float, default=0.0001
        Strength of the L2 penalty; ``alpha |W|^2 / (2 n)`` is added to the loss of n samples.
    batch_size : int or 'auto', default='auto'
        Rows per minibatch; 'auto' is ``min(200, n_samples)``. Not used by 'lbfgs'.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        Schedule of the learning rate with ``solver='sgd'``: 'invscaling' divides
        `learning_rate_init` by ``(t_ + 1)^power_t`` after each epoch; 'adaptive' divides it by 5
        each time training would stop for lack of progress, until it is 1e-6.
    learning_rate_init : float, default=0.001
        Initial learning rate of 'sgd' and 'adam'.
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
        Whether to print the loss (and validation score) of each epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the last call (with a fresh optimizer).
    momentum : float, default=0.9
        Momentum of 'sgd', from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether 'sgd' uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to set `validation_fraction` of the data aside, to stop when the score on it no
        longer improves, and to keep the weights that scored best ('sgd', 'adam').
    validation_fraction : float, default=0.1
        Share of the samples set aside with `early_stopping`; stratified
        by class in the binary case, as in scikit-learn.
    beta_1 : float, default=0.9
        Decay rate of Adam's first moment, in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of Adam's second moment, in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of Adam's second moment, outside the bias correction.
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
        ``n_samples / (n_classes * count)``; a list has one dict for each label of multilabel y.
    init : {'auto', 'he', 'glorot', 'lecun'}, default='auto'
        How initial weights are drawn: 'auto' as scikit-learn draws them, with a gain that fits the
        activation; or uniform with the variance of He et al. (2015), Glorot & Bengio (2010) or
        LeCun et al. (1998), biases 0.
    dropout : float or list of float, default=0.0
        Probability with which a hidden unit is left out of a training step (Srivastava et al.
        2014), for all hidden layers or one for each.
    max_grad_norm : float or None, default=None
        Gradients with a larger norm over all weights and biases are scaled down to this norm
        before each step (Pascanu et al. 2013).
    ema_decay : float or None, default=None
        Predictions use an exponential moving average of the weights over the steps, with this
        decay (Polyak & Juditsky 1992).
    scoring : str, callable or None, default=None
        What is measured on validation data: None is accuracy, 'loss' the validation
        loss, else one of scikit-learn's scorers.
    max_time : float or None, default=None
        Seconds after which training ends, with the step in hand completed.

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
        Accuracy on the validation set after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
        Best of `validation_scores_`.
    t_ : int
        Number of samples seen, ``epochs * n_samples``.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
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

    References
    ----------
    Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward networks.
    Kingma & Ba (2014), Adam: A method for stochastic optimization.

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
    """

    _parameter_rules = CLASSIFIER_PARAMETERS

    classes_: NDArray[Any]

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
    def partial_fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: Weights = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train one epoch on X and y, going on from the weights and optimizer of the last call.

        The optimizer is made by the first call (or by `fit`), with the settings of that time.

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
            return self._fit(X, y, sample_weight, incremental=True)

    def _check_partial_fit_classes(self, classes):
        known = vars(self).get("classes_")
        if classes is None:
            if known is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return
        found = find_classes(classes)
        if known is None:
            self.classes_ = found
        elif not np.array_equal(known, found):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{known!r}"
            )

    def _check_y(self, y, n_samples, dtype, fresh, incremental):
        """Targets and loss of y; sets `classes_`, `n_outputs_` and the kind of target."""
        y, is_multilabel, is_sparse = check_labels(self, y, n_samples)
        if fresh:
            if not incremental:
                self.classes_ = np.arange(y.shape[1]) if is_multilabel else find_classes(y)
            self._target_kind = kind_of_target(self, is_multilabel, self.classes_)
            self._sparse_labels = is_sparse
        elif is_multilabel != (self._target_kind == "multilabel"):
            raise ValueError(
                f"The model was trained on {self._target_kind} y, but y is "
                f"{'' if is_multilabel else 'not '}multilabel. Call fit with warm_start=False to "
                "begin anew."
            )
        self.n_outputs_ = 1 if self._target_kind == "binary" else len(self.classes_)
        if is_multilabel:
            targets = encode_indicators(y, self.classes_, dtype)
        else:
            complete = not (fresh or incremental)
            targets = encode_labels(y, self.classes_, dtype, complete=complete)
        return targets, loss_for(self.loss, self._target_kind)

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
        if self._target_kind == "binary":
            return self.classes_[(scores[:, 0] > 0).astype(np.intp)]
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
        """
        scores, engine, dtype = self._raw_scores(X)
        scores = scores.astype(dtype, copy=False)
        binary, second_is_larger = self._target_kind == "binary", scores > 0
        if binary:  # the smaller of two directly, the larger as its complement: no digits are lost
            np.negative(np.abs(scores, out=scores), out=scores)
        engine.transform_into(self.out_activation_, scores)
        if not binary:
            return scores
        pair = np.hstack([1 - scores, scores])
        return np.where(second_is_larger, pair[:, ::-1], pair)

    def predict_log_proba(self, X: Features) -> Floats:
        """Logarithm of the probability of each class, from the raw scores: never -inf.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`, with the dtype of `predict_proba`.
        """
        scores, engine, dtype = self._raw_scores(X)
        scores = scores.astype(dtype, copy=False)
        if self._target_kind == "binary":
            scores = np.hstack([-scores, scores])
        engine.transform_into(f"log_{self.out_activation_}", scores)
        return scores

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class BackpropRegressor(RegressorMixin, _BaseBackprop):
    """Neural network regressor, trained by backpropagation in compiled code.

    Minimises the squared error or the Poisson deviance by stochastic gradient descent, Adam or
    L-BFGS. Parameters, methods and fitted attributes are those of
    :class:`~sklearn.neural_network.MLPRegressor`; with ``dtype=None`` and the same `random_state`
    a run reproduces it (except for 'lbfgs' with several outputs, where scikit-learn's gradient
    does not belong to its loss).

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, function or Loss, default='squared_error'
        Half the squared error, or half the Poisson deviance with log link (``y >= 0``); or a scalar
        Python function ``g(y_true, raw)`` of yours, summed over the outputs.
        :class:`~fastbp.Loss` holds one with settings, such as its link.
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units of each hidden layer; ``()`` for none (a linear model).
    activation : {'identity', 'logistic', 'tanh', 'relu'}, function, Activation or list, \
            default='relu'
        Activation function of the hidden layers, or a list with one for each.  A function of yours
        is a scalar Python function ``f(z)``; Numba compiles it at the first fit (about a second)
        and differentiates it. :class:`~fastbp.Activation` holds one with settings.
    solver : {'lbfgs', 'sgd', 'adam'}, default='adam'
        'adam' and 'sgd' step minibatch by minibatch; 'lbfgs' is scipy's L-BFGS-B over the full
        batch, always in float64.
    alpha : float, default=0.0001
        Strength of the L2 penalty; ``alpha |W|^2 / (2 n)`` is added to the loss of n samples.
    batch_size : int or 'auto', default='auto'
        Rows per minibatch; 'auto' is ``min(200, n_samples)``. Not used by 'lbfgs'.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default='constant'
        Schedule of the learning rate with ``solver='sgd'``: 'invscaling' divides
        `learning_rate_init` by ``(t_ + 1)^power_t`` after each epoch; 'adaptive' divides it by 5
        each time training would stop for lack of progress, until it is 1e-6.
    learning_rate_init : float, default=0.001
        Initial learning rate of 'sgd' and 'adam'.
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
        Whether to print the loss (and validation score) of each epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the last call (with a fresh optimizer).
    momentum : float, default=0.9
        Momentum of 'sgd', from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether 'sgd' uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to set `validation_fraction` of the data aside, to stop when the score on it no
        longer improves, and to keep the weights that scored best ('sgd', 'adam').
    validation_fraction : float, default=0.1
        Share of the samples set aside with `early_stopping`.
    beta_1 : float, default=0.9
        Decay rate of Adam's first moment, in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of Adam's second moment, in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of Adam's second moment, outside the bias correction.
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
        LeCun et al. (1998), biases 0.
    dropout : float or list of float, default=0.0
        Probability with which a hidden unit is left out of a training step (Srivastava et al.
        2014), for all hidden layers or one for each.
    max_grad_norm : float or None, default=None
        Gradients with a larger norm over all weights and biases are scaled down to this norm
        before each step (Pascanu et al. 2013).
    ema_decay : float or None, default=None
        Predictions use an exponential moving average of the weights over the steps, with this
        decay (Polyak & Juditsky 1992).
    scoring : str, callable or None, default=None
        What is measured on validation data: None is R2, 'loss' the validation
        loss, else one of scikit-learn's scorers.
    max_time : float or None, default=None
        Seconds after which training ends, with the step in hand completed.
    scale_targets : bool, default=False
        Whether to standardise y inside: the network is trained on targets of mean 0 and variance 1,
        and predictions come back on the original scale.

    Attributes
    ----------
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float or None
        Lowest loss of an epoch; None with `early_stopping`. Not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch. Not set by 'lbfgs'.
    validation_scores_ : list of float or None
        R2 on the validation set after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
        Best of `validation_scores_`.
    t_ : int
        Number of samples seen, ``epochs * n_samples``.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features; only where X had names that are all strings.
    n_iter_ : int
        Number of epochs (or iterations) of the last call.
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of outputs.
    out_activation_ : str
        Output transform: 'identity', or 'exp' with ``loss='poisson'``.

    See Also
    --------
    BackpropClassifier : Neural network classifier.

    References
    ----------
    Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward networks.
    Kingma & Ba (2014), Adam: A method for stochastic optimization.

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
    """

    _parameter_rules = REGRESSOR_PARAMETERS

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
    def partial_fit(self, X: Features, y: Targets, sample_weight: Weights = None) -> Self:
        """Train one epoch on X and y, going on from the weights and optimizer of the last call.

        The optimizer is made by the first call (or by `fit`), with the settings of that time.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data, and if training diverges.  The estimator stays as it was.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight, incremental=True)

    def _check_y(self, y, n_samples, dtype, fresh, incremental):
        """Targets and loss of y; sets `n_outputs_`."""
        loss = loss_for(self.loss, "real")
        targets = check_targets(self, y, n_samples, dtype, loss)
        self.n_outputs_ = targets.shape[1]
        return targets, loss

    def predict(self, X: Features) -> Floats:
        """Predict target values.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            float32 for float32 X, else float64 (``dtype=None``: as scikit-learn).
        """
        scores, engine, dtype = self._raw_scores(X)
        predictions = scores.astype(dtype, copy=False)
        if self.out_activation_ != "identity":
            engine.transform_into(self.out_activation_, predictions)
        return predictions.ravel() if predictions.shape[1] == 1 else predictions

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        row = LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        tags.target_tags.positive_only = isinstance(row, Loss) and row.target_min == 0.0
        return tags
