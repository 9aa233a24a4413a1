"""Parameters: NumPy's numbers mean their value, wrong names are answered with the one meant."""

import inspect
import re
from functools import partial

import numpy as np
import pytest
import sklearn
import sklearn.metrics
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import (
    Activation,
    BackpropClassifier,
    BackpropRegressor,
    BackpropSearchCV,
    TableEncoder,
    TabularClassifier,
    TabularRegressor,
    find_learning_rate,
    optimizers,
    schedules,
)
from fastbp import losses as fastbp_losses
from fastbp.losses import Focal, Huber, LogLoss, Loss, Quantile, Tweedie
from fastbp.messages import FIT_ARGUMENTS, PARAMETERS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size`"),
]

BOTH = (BackpropClassifier, BackpropRegressor)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = {BackpropClassifier: X[:, 0] > 0, BackpropRegressor: 3 * np.abs(X[:, 0])}
SMALL = dict(hidden_layer_sizes=(3,), max_iter=4, batch_size=16, random_state=0)

# --- numbers of NumPy -----------------------------------------------------------------------------

FLOATS = (np.float16, np.float32, np.float64, np.longdouble)
INTS = (np.int8, np.uint8, np.int64, np.uint64)
# Parameter, value, and the settings with which it matters.
REALS = {
    "alpha": (0.1, {}),
    "learning_rate_init": (0.01, {}),
    "power_t": (0.3, dict(solver="sgd", learning_rate="invscaling")),
    "tol": (1e-3, dict(early_stopping=True, n_iter_no_change=1)),
    "momentum": (0.7, dict(solver="sgd")),
    "validation_fraction": (0.3, dict(early_stopping=True)),
    "beta_1": (0.8, {}),
    "beta_2": (0.9, {}),
    "epsilon": (1e-3, {}),
    "dropout": (0.3, {}),
    "max_grad_norm": (0.5, {}),
    "ema_decay": (0.9, {}),
    "max_time": (100.0, {}),
    "n_iter_no_change": (np.inf, {}),
}
COUNTS = {
    "hidden_layer_sizes": (5, {}),
    "batch_size": (20, {}),
    "max_iter": (3, {}),
    "random_state": (3, {}),
    "n_iter_no_change": (2, dict(tol=1.0)),
    "max_fun": (6, dict(solver="lbfgs")),
    "n_threads": (1, {}),
}


def weights_of(kind, settings, y=None):
    model = kind(**SMALL | settings).fit(X, Y[kind] if y is None else y)
    return np.concatenate([W.ravel() for W in (*model.coefs_, *model.intercepts_)])


def check_same(kind, settings, plain, y=None):
    given, wanted = weights_of(kind, settings, y), weights_of(kind, plain, y)
    np.testing.assert_array_equal(given, wanted, strict=True)


@pytest.mark.parametrize("number", FLOATS)
@pytest.mark.parametrize("name", REALS)
def test_floats_of_numpy_mean_their_value(name, number):
    value, others = REALS[name]
    kind = BackpropRegressor if number is np.float16 else BackpropClassifier
    given = number(value)
    check_same(kind, {**others, name: given}, {**others, name: float(given)})
    assert getattr(kind(**{name: given}), name) is given  # the estimator keeps what it was given


@pytest.mark.parametrize("number", INTS)
@pytest.mark.parametrize("name", COUNTS)
def test_ints_of_numpy_mean_their_value(name, number):
    value, others = COUNTS[name]
    check_same(BackpropClassifier, {**others, name: number(value)}, {**others, name: value})


OBJECTS = {
    "SGD": lambda f: dict(solver=optimizers.SGD(f(0.7), np.bool_(True))),
    "AdamW": lambda f: dict(solver=optimizers.AdamW(f(0.8), f(0.9), f(1e-3), f(0.1))),
    "RMSprop": lambda f: dict(solver=optimizers.RMSprop(f(0.9), f(1e-3), f(0.3))),
    "Lion": lambda f: dict(solver=optimizers.Lion(f(0.8), f(0.9), f(0.1))),
    "Cosine": lambda f: dict(learning_rate=schedules.Cosine(f(0.1), f(0.2))),
    "Linear": lambda f: dict(learning_rate=schedules.Linear(f(0.1), f(0.2))),
    "OneCycle": lambda f: dict(learning_rate=schedules.OneCycle(f(0.1), f(0.2), f(0.1))),
    "Plateau": lambda f: dict(learning_rate=schedules.Plateau(f(0.3), 1, f(0.1)), tol=1.0),
    "InvScaling": lambda f: dict(learning_rate=schedules.InvScaling(f(0.3)), solver="sgd"),
    "function": lambda f: dict(learning_rate=lambda step, n_steps: np.asarray(f(0.37))),
    "list of rates": lambda f: dict(dropout=[f(0.2)]),
    "factor": lambda f: dict(activation=[Activation(np.tanh, factor=f(3.1))]),
    "Huber": lambda f: dict(loss=Huber(f(0.7))),
    "Quantile": lambda f: dict(loss=Quantile(f(0.7))),
    "quantiles": lambda f: dict(loss=Quantile([f(0.1), f(0.7)])),
    "Tweedie": lambda f: dict(loss=Tweedie(f(1.3))),
    "Focal": lambda f: dict(loss=Focal(f(0.7))),
    "LogLoss": lambda f: dict(loss=LogLoss(f(0.1))),
}


@pytest.mark.parametrize("number", [np.float16, np.float32])
@pytest.mark.parametrize("name", OBJECTS)
def test_numbers_of_numpy_in_objects_mean_their_value(name, number):
    make = OBJECTS[name]
    kind = BackpropClassifier if name in ("Focal", "LogLoss") else BackpropRegressor
    check_same(kind, make(number), make(lambda value: float(number(value))))


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (dict(shuffle=np.bool_(False)), dict(shuffle=False)),
        (dict(early_stopping=np.True_), dict(early_stopping=True)),
        (dict(solver=np.str_("sgd")), dict(solver="sgd")),
        (dict(activation=np.str_("tanh")), dict(activation="tanh")),
        (dict(dtype=np.str_("float64")), dict(dtype="float64")),
        (dict(hidden_layer_sizes=np.array([3, 2], np.int8)), dict(hidden_layer_sizes=(3, 2))),
        (dict(hidden_layer_sizes=[np.int8(3), np.uint64(2)]), dict(hidden_layer_sizes=(3, 2))),
        (dict(n_threads=np.int8(-1)), dict(n_threads=-1)),
    ],
)
def test_other_scalars_of_numpy_mean_their_value(given, plain):
    for kind in BOTH:
        check_same(kind, given, plain)


@pytest.mark.filterwarnings("ignore:The loss still fell at the highest")
def test_weights_and_rates_given_as_numbers_of_numpy():
    y, half = Y[BackpropClassifier], np.float16(0.3)
    by_class = {np.bool_(True): half, np.bool_(False): np.float16(2.0)}
    check_same(
        BackpropClassifier,
        dict(class_weight=by_class),
        dict(class_weight={True: float(half), False: 2.0}),
    )
    models = [BackpropClassifier(**SMALL).fit(X, y, sample_weight=w) for w in (half, float(half))]
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])
    curves = [
        find_learning_rate(BackpropClassifier(**SMALL), X, y, lowest=f(1e-4), highest=f(1.0))
        for f in (np.float32, lambda value: float(np.float32(value)))
    ]
    np.testing.assert_array_equal(curves[0].learning_rates, curves[1].learning_rates)


@pytest.mark.parametrize(
    "value", [np.float16("nan"), np.float32("inf"), np.longdouble("1e400"), -np.float16(1)]
)
def test_numbers_out_of_range_are_refused_without_a_warning(value):
    for name in ("alpha", "max_time", "learning_rate_init"):
        with pytest.raises(ValueError, match=f"'{name}' parameter of BackpropRegressor"):
            BackpropRegressor(**{name: value}).fit(X, X[:, 0])


# --- scorers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [np.array(0.5), np.float16(0.5), np.float32(0.5), 1, True])
def test_scores_may_be_numbers_of_any_kind(score):
    y = Y[BackpropClassifier]
    model = BackpropClassifier(**SMALL, scoring=lambda estimator, X, y: score)
    assert model.fit(X, y, X_val=X, y_val=y).validation_scores_ == [float(score)] * 4
    assert type(model.validation_scores_[0]) is float


@pytest.mark.parametrize("score", [None, "0.5", [0.5], np.array([0.5]), 1j, np.nan, {"a": 1.0}])
def test_scores_that_are_no_number_are_refused(score):
    y = Y[BackpropClassifier]
    model = BackpropClassifier(**SMALL, scoring=lambda estimator, X, y: score)
    with pytest.raises(ValueError, match=r"must return a number\. Got"):
        model.fit(X, y, X_val=X, y_val=y)


def own_metric(y_true, y_pred, sample_weight=None):
    return 1.0


def own_error(truth, prediction):
    return 1.0


METRICS = {
    sklearn.metrics.accuracy_score: ["make_scorer(accuracy_score)", "scoring='accuracy'"],
    sklearn.metrics.r2_score: ["make_scorer(r2_score)", "scoring='r2'"],
    sklearn.metrics.f1_score: ["make_scorer(f1_score)", "scoring='f1'"],
    sklearn.metrics.roc_auc_score: [
        "make_scorer(roc_auc_score, response_method='predict_proba')", "scoring='roc_auc'",
    ],
    sklearn.metrics.mean_squared_error: [
        "make_scorer(mean_squared_error, greater_is_better=False)",
        "scoring='neg_mean_squared_error'",
    ],
    sklearn.metrics.log_loss: [
        "make_scorer(log_loss, response_method='predict_proba', greater_is_better=False)",
        "scoring='neg_log_loss'",
    ],
    partial(sklearn.metrics.f1_score, average="macro"): ["make_scorer(f1_score, average='macro')"],
    own_metric: ["own_metric takes y_true and y_pred", "make_scorer(own_metric)"],
    own_error: ["make_scorer(own_error, greater_is_better=False)"],
}  # fmt: skip


@pytest.mark.parametrize("metric", METRICS, ids=lambda value: getattr(value, "__name__", "partial"))
def test_metrics_are_answered_with_make_scorer(metric):
    for kind in BOTH:
        model = kind(scoring=metric)
        with pytest.raises(ValueError, match=r"'scoring' parameter of .* as metrics do") as caught:
            model.fit("no data", "no targets")
        for part in METRICS[metric]:
            assert part in str(caught.value)
        assert isinstance(repr(model) + model.summary(), str)


class Scorer:
    def __call__(self, estimator, X, y):
        return estimator.score(X, y)


def test_what_scorers_may_be():
    y = Y[BackpropClassifier]
    fixed = partial(lambda estimator, X, y, value: value, value=2.0)
    for scoring in (Scorer(), Scorer().__call__, fixed, max):
        model = BackpropClassifier(**SMALL, scoring=scoring)
        if scoring is max:
            with pytest.raises((TypeError, ValueError)):
                model.fit(X, y, X_val=X, y_val=y)
        else:
            assert len(model.fit(X, y, X_val=X, y_val=y).validation_scores_) == 4
    for scoring in (Scorer, lambda estimator: 1.0, lambda a, b, c, d: 1.0):
        with pytest.raises(ValueError, match="'scoring' parameter") as caught:
            BackpropClassifier(scoring=scoring).fit("no data", "no targets")
        assert "make_scorer" not in str(caught.value).rpartition("instead.")[2]


# --- did you mean ---------------------------------------------------------------------------------

MEANT = [
    ("loss", "mse", "'squared_error'"),
    ("loss", "MSE", "'squared_error'"),
    ("loss", "mae", "'absolute_error'"),
    ("loss", "l1", "'absolute_error'"),
    ("loss", "l2", "'squared_error'"),
    ("loss", "mean_squared_error", "'squared_error'"),
    ("loss", "huber_loss", "'huber'"),
    ("loss", "Tweedie", "'tweedie'"),
    ("loss", "log_loss", "'log_loss' is a loss of BackpropClassifier"),
    ("loss", "crossentropy", "'log_loss' is a loss of BackpropClassifier"),
    ("loss", (64,), "hidden_layer_sizes=(64,)? The first parameter of BackpropRegressor is loss"),
    ("loss", [64, 32], "hidden_layer_sizes=[64, 32]?"),
    ("loss", 64, "hidden_layer_sizes=64?"),
    ("loss", Huber, "Huber()"),
    ("activation", "swish", "'silu'"),
    ("activation", "sigmoid", "'logistic'"),
    ("activation", "Sigmoid", "'logistic'"),
    ("activation", "lrelu", "'leaky_relu'"),
    ("activation", "LeakyReLU", "'leaky_relu'"),
    ("activation", "leaky-relu", "'leaky_relu'"),
    ("activation", ["tanh", "swish"], "'silu'"),
    ("activation", "adam", "solver='adam'"),
    ("solver", "Adam", "'adam'"),
    ("solver", "nadam", "'adam'"),
    ("solver", "l-bfgs-b", "'lbfgs'"),
    ("solver", optimizers.AdamW, "AdamW()"),
    ("solver", "cosine", "learning_rate='cosine'"),
    ("learning_rate", 0.01, "learning_rate_init=0.01"),
    ("learning_rate", np.float32(0.5), "learning_rate_init="),
    ("learning_rate", "reduce_on_plateau", "'plateau'"),
    ("learning_rate", "onecycle", "'one_cycle'"),
    ("learning_rate", schedules.Cosine, "Cosine()"),
    ("scoring", "rmse", "'neg_root_mean_squared_error'"),
    ("scoring", "mse", "'neg_mean_squared_error'"),
    ("scoring", "mean_absolute_error", "'neg_mean_absolute_error'"),
    ("scoring", "auc", "'roc_auc'"),
    ("scoring", "f1_score", "'f1'"),
    ("scoring", "Accuracy", "'accuracy'"),
    ("dtype", np.float32, "'float32'"),
    ("dtype", np.dtype("f8"), "'float64'"),
    ("dtype", "float", "'float64'"),
    ("dtype", "single", "'float32'"),
    ("dtype", "bfloat16", "dtype='float32', matmul_precision='medium'?"),
    ("dtype", "fp32", "'float32'"),
    ("init", "xavier", "'glorot'"),
    ("init", "kaiming", "'he'"),
    ("engine", "native", "'cython'"),
    ("warm_start", "Resume", "'resume'"),
    ("hidden_layer_sizes", "relu", "activation='relu'"),
]


@pytest.mark.parametrize(
    ("name", "value", "meant"), MEANT, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_wrong_value_gets_the_list_and_the_one_that_was_meant(name, value, meant):
    model = BackpropRegressor(**{name: value})
    with pytest.raises(ValueError, match=f"'{name}' parameter of BackpropRegressor") as caught:
        model.fit("no data", "no targets")
    allowed, got, hint = re.split(r"\. Got | instead\.", str(caught.value), maxsplit=2)
    assert meant in hint
    names = {
        "loss": fastbp_losses.REGRESSION_LOSSES,
        "solver": optimizers.OPTIMIZERS,
        "learning_rate": schedules.SCHEDULES,
        "scoring": sklearn.metrics.get_scorer_names(),
    }.get(name, ())
    assert all(repr(allowed_name) in allowed for allowed_name in names)
    assert repr(value) == got


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        (dict(loss="bce"), "'log_loss'"),
        (dict(loss="cross_entropy"), "'log_loss'"),
        (dict(loss="mse"), "'squared_error' is a loss of BackpropRegressor"),
        (dict(loss=(64,)), "hidden_layer_sizes=(64,)?"),
        (dict(class_weight="balance"), "'balanced'"),
        (dict(class_weight="auto"), "'balanced'"),
        (dict(hidden_layer_sizes="log_loss"), "loss='log_loss'"),
        (dict(batch_size="full"), None),
        (dict(solver="auto"), None),
        (dict(activation="no such"), None),
    ],
)
def test_a_classifier_is_asked_for_its_own(settings, meant):
    with pytest.raises(ValueError, match="parameter of BackpropClassifier") as caught:
        BackpropClassifier(**settings).fit("no data", "no targets")
    message = str(caught.value)
    assert (meant in message) if meant else message.endswith("instead.")


FIT_MEANT = {
    "eval_set": "X_val=, y_val=",
    "validation_data": "X_val=, y_val=",
    "x_val": "X_val=",
    "Y_valid": "y_val=",
    "sample_weights": "sample_weight=",
    "epochs": "Backprop{}(max_iter=...)",
    "lr": "Backprop{}(learning_rate_init=...)",
    "batch_size": "Backprop{}(batch_size=...)",
    "verbose": "Backprop{}(verbose=...)",
    "weight_decay": "AdamW(weight_decay=...)",
    "callbacks": "set_callbacks(...)",
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("word", FIT_MEANT)
def test_an_unknown_argument_of_fit_names_the_right_one(word, method):
    for kind in BOTH:
        name = kind.__name__
        with pytest.raises(TypeError) as caught:
            getattr(kind(), method)(X, Y[kind], **{word: 1})
        message = str(caught.value)
        assert message.startswith(f"{name}.{method}() got an unexpected keyword argument '{word}'.")
        assert FIT_MEANT[word].format(name.removeprefix("Backprop")) in message
        assert "It takes X, y, sample_weight" in message


def test_wrong_calls_of_fit_name_the_public_class():
    model = BackpropClassifier()
    for call, words in (
        (lambda: model.fit(), "BackpropClassifier.fit() missing a required argument: 'X'"),
        (lambda: model.fit(X, X, X, X), "BackpropClassifier.fit() got too many positional"),
        (lambda: model.fit(X, X, y=X), "BackpropClassifier.fit() got multiple values"),
        (lambda: model.fit(X, X, classify=1), "BackpropClassifier.fit() got an unexpected"),
    ):
        with pytest.raises(TypeError, match=re.escape(words)):
            call()
    with pytest.raises(ValueError, match="BackpropClassifier estimator requires y to be passed"):
        model.fit(X)
    pipeline = make_pipeline(StandardScaler(), BackpropRegressor())
    with pytest.raises(TypeError, match=r"BackpropRegressor.fit\(\).*X_val="):
        pipeline.fit(X, X[:, 0], backpropregressor__eval_set=1)
    assert not hasattr(model, "n_features_in_")


def test_a_type_error_from_inside_stays_as_it_is():
    error = TypeError("of the schedule")

    def schedule(step, n_steps):
        raise error

    with pytest.raises(TypeError) as caught:
        BackpropRegressor(learning_rate=schedule).fit(X, X[:, 0])
    assert caught.value is error


CONSTRUCTOR_MEANT = {
    "hidden_layers": "hidden_layer_sizes",
    "hidden_layer_size": "hidden_layer_sizes",
    "lr": "learning_rate_init",
    "epochs": "max_iter",
    "patience": "n_iter_no_change",
    "weight_decay": "alpha (the L2 penalty), or solver=fastbp.optimizers.AdamW(weight_decay=...)",
    "n_jobs": "n_threads",
    "optimizer": "solver",
    "seed": "random_state",
    "Alpha": "alpha",
    "learning_rate_int": "learning_rate_init",
    "validation_split": "validation_fraction",
}


@pytest.mark.parametrize("word", CONSTRUCTOR_MEANT)
def test_an_unknown_parameter_names_the_right_one(word):
    meant = f"Did you mean {CONSTRUCTOR_MEANT[word]}?"
    for kind in BOTH:
        name = kind.__name__
        with pytest.raises(TypeError, match=re.escape(meant)) as caught:
            kind(**{word: 1})
        assert str(caught.value).startswith(f"{name}.__init__() got an unexpected keyword")
        with pytest.raises(ValueError, match=re.escape(meant)) as caught:
            kind().set_params(**{word: 1})
        assert str(caught.value).startswith(f"Invalid parameter '{word}' for estimator {name}()")


@pytest.mark.parametrize(
    ("kind", "word", "meant"),
    [
        (BackpropClassifier, "eval_set", "X_val=, y_val= of fit"),
        (BackpropRegressor, "X_val", "X_val= of fit"),
        (BackpropClassifier, "callbacks", "set_callbacks(...), before the fit"),
        (TabularClassifier, "sample_weight", "sample_weight= of fit"),
        (TabularClassifier, "n_models", "n_networks"),
        (TabularClassifier, "warm_start", None),  # once "random_state"
        (TableEncoder, "n_jobs", None),  # once "n_bins"
        (TableEncoder, "callbacks", None),
        (BackpropSearchCV, "param_distributions", "params"),
        (BackpropSearchCV, "n_iter", "n_candidates"),
        (BackpropSearchCV, "eta", "factor"),
    ],
)
def test_an_unknown_parameter_of_each_class(kind, word, meant):
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.__init__") as caught:
        kind(**{word: 1})
    found = re.search(r"Did you mean (.*)\?", str(caught.value))
    assert (found and found[1]) == meant


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        (dict(strategy="Grid"), "'grid'"),
        (dict(strategy="successive_halving"), "'halving'"),
        (dict(scoring="rmse"), "'neg_root_mean_squared_error'"),
        (dict(scoring=["r2", "auc"]), "'roc_auc'"),
        (dict(scoring={"a": sklearn.metrics.r2_score}), "make_scorer(r2_score)"),
    ],
)
def test_a_search_names_what_was_meant(settings, meant):
    search = BackpropSearchCV(BackpropRegressor(), {"alpha": [1]}, **settings)
    with pytest.raises(ValueError, match="parameter of BackpropSearchCV") as caught:
        search.fit("no data", "no targets")
    assert meant in str(caught.value).partition("instead.")[2]


def test_an_unknown_parameter_without_a_relative():
    with pytest.raises(TypeError, match=r"'no_such_thing'\. It takes hidden_layer_sizes,"):
        BackpropClassifier(no_such_thing=1)
    with pytest.raises(ValueError, match=r"Valid parameters are: .*\.$"):
        BackpropClassifier().set_params(no_such_thing=1)
    model = BackpropRegressor(loss=Huber())
    with pytest.raises(ValueError, match=r"Invalid parameter 'gamma' for estimator Huber"):
        model.set_params(loss__gamma=1)


def test_signatures_and_metadata_routing_are_those_of_the_methods():
    names = ["self", "X", "y", "sample_weight", "X_val", "y_val", "sample_weight_val", "snapshot"]
    assert list(inspect.signature(BackpropRegressor.fit).parameters) == names
    assert list(inspect.signature(BackpropRegressor().fit).parameters) == names[1:]
    assert BackpropRegressor.fit.__doc__.startswith("Train the network on X and y.")
    assert next(iter(inspect.signature(BackpropRegressor).parameters)) == "loss"
    with sklearn.config_context(enable_metadata_routing=True):
        model = BackpropClassifier().set_fit_request(X_val=True, y_val=True)
        assert model.get_metadata_routing().fit.requests["X_val"] is True
        with pytest.raises(TypeError, match="eval_set"):
            model.set_fit_request(eval_set=True)


def test_the_tables_of_other_names_lead_to_names():
    parameters = BackpropRegressor().get_params() | BackpropClassifier().get_params()
    for kind in (TableEncoder, TabularClassifier, BackpropSearchCV):
        parameters |= inspect.signature(kind).parameters
    assert {meaning.split(" ")[0] for meaning in PARAMETERS} <= parameters.keys()
    arguments = inspect.signature(BackpropRegressor.fit).parameters
    for meaning in FIT_ARGUMENTS:
        assert all(word in arguments for word in re.findall(r"(\w+)=", meaning))
    for module in (fastbp_losses, optimizers, schedules):
        for name in module.OTHER_WORDS.values():
            assert name in (
                set(fastbp_losses.NAMED_LOSSES)
                | set(optimizers.OPTIMIZERS)
                | set(schedules.SCHEDULES)
            )


def test_a_loss_of_numbers_by_a_user_takes_numbers_of_numpy():
    def loss(y_true, raw, hyper):
        return hyper[0] * (y_true - raw) ** 2

    check_same(
        BackpropRegressor,
        dict(loss=Loss(loss, hyper=(np.float32(0.3),), target_min=np.float16(-100))),
        dict(loss=Loss(loss, hyper=(float(np.float32(0.3)),), target_min=-100.0)),
    )


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        ({"early_stopping": 10}, "early_stopping=True, n_iter_no_change=10"),
        ({"early_stopping": 0.2}, "early_stopping=True, validation_fraction=0.2"),
        ({"early_stopping": 1}, "True"), ({"early_stopping": "no"}, "False"),
        ({"warm_start": "true"}, "True"), ({"warm_start": "False"}, "False"),
        ({"shuffle": 0}, "False"), ({"verbose": "yes"}, "True"), ({"n_threads": "none"}, "None"),
    ],
)  # fmt: skip
def test_a_constant_in_other_words_is_understood(settings, meant):
    model = BackpropClassifier(**settings)
    with pytest.raises(ValueError, match=re.escape(f"Did you mean {meant}?")):
        model.fit([[0.0], [1.0]], [0, 1])


def test_arrays_as_switches_are_refused():
    with pytest.raises(ValueError, match="'early_stopping' parameter"):
        BackpropClassifier(early_stopping=np.array([1, 2])).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize(
    ("word", "right"),
    [("val_X", "X_val"), ("val_y", "y_val"), ("test_x", "X_val"), ("val_labels", "y_val")],
)
def test_turned_names_of_validation_data(word, right):
    with pytest.raises(TypeError, match=f"Did you mean {right}="):
        BackpropClassifier().fit([[0.0], [1.0]], [0, 1], **{word: [0]})


async def give_later(*args):
    return 1.0


async def give_some(*args):
    yield 1.0


class Later:
    async def __call__(self, estimator, X, y):
        return 1.0


@pytest.mark.parametrize("name", ["activation", "loss", "scoring", "learning_rate"])
@pytest.mark.parametrize("value", [give_later, give_some, Later(), partial(give_later)])
def test_functions_to_await_are_refused(name, value):
    """Warnings are errors: none was called, and never awaited."""
    with pytest.raises(ValueError, match=f"'{name}' parameter .*write it with a plain def"):
        BackpropClassifier(**{name: value}).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize(
    ("make", "weights"),
    [
        (partial(BackpropClassifier, (10**9,)), "6,000,000,001"),
        (partial(BackpropRegressor, hidden_layer_sizes=(10**6,) * 2, solver="lbfgs"), "1,000,"),
        (partial(TabularRegressor, hidden_layer_sizes=(10**6,) * 2), "1,000,"),
    ],
)
def test_a_network_larger_than_memory_is_refused(make, weights):
    """Before any is taken: Linux would end the process later on."""
    X, y = np.arange(80.0).reshape(20, 4), np.arange(20) % 2
    net = make(random_state=0)
    with pytest.raises(MemoryError, match=f"makes ({weights}).*GiB of this machine"):
        net.fit(X, y)
    assert not hasattr(net, "n_iter_")
