"""Numbers: how far every engine is from the reference, and what extreme inputs give.

In float64 losses and weights after ten epochs, at every number of threads and instruction set; in
float32 the losses.  Then fits on inputs at the edge: the result is finite, or an error says why.
"""

import warnings

import numpy as np
import reference
from problems import HYPERPARAMETERS, LEARNING_RATES, draw_problem
from sessions import draw_orders, open_session, read_params, run_epochs

from checks.figures import Figures
from fastbp import BackpropClassifier, BackpropRegressor
from fastbp.engine import get_engine
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

THREADS = (1, 2, 3, 7)
CONFIGURATIONS = [
    dict(sizes=(4, 10, 3), n_samples=150, loss="log_loss"),
    dict(sizes=(10, 32, 32, 1), n_samples=200, activation="tanh"),
    dict(sizes=(64, 100, 10), n_samples=500, loss="log_loss", weighted=True),
    dict(sizes=(54, 130, 70, 7), n_samples=300, loss="binary_log_loss", activation="logistic"),
    dict(sizes=(300, 40, 5), n_samples=200, density=0.05),
    dict(sizes=(33, 17, 1), n_samples=1200, loss="poisson", activation="tanh"),
    dict(sizes=(1200, 24, 2), n_samples=120),
    dict(sizes=(7, 8, 9, 10, 11, 12, 2), n_samples=220, activation="identity"),
]
BATCH_SIZE, ALPHA, N_EPOCHS = 50, 0.01, 10


def compare(engine, options, solver, dtype, threads):
    """Largest distance of weights (absolute) and of losses (relative) from the reference."""
    problem = draw_problem(**options)
    X, targets, weight, params = problem.in_dtype(dtype)
    rate = LEARNING_RATES[solver] / 5
    expected, losses, _, _ = reference.train(
        params, problem.sizes, problem.activations, problem.loss, X, targets, weight,
        draw_orders(X.shape[0], N_EPOCHS), batch_size=BATCH_SIZE, alpha=ALPHA, learning_rate=rate,
        optimizer=solver, hyper=HYPERPARAMETERS[solver],
    )  # fmt: skip
    found = []
    for n_threads in threads:
        session = open_session(engine, problem, dtype, batch_size=BATCH_SIZE, threads=n_threads)
        try:
            got = run_epochs(
                session, problem, dtype, solver=solver, n_epochs=N_EPOCHS, batch_size=BATCH_SIZE,
                alpha=ALPHA, learning_rate=rate,
            )  # fmt: skip
            moved = np.abs(read_params(session, problem, dtype) - expected).max()
            found.append((moved, np.abs(got / losses - 1).max()))
        finally:
            session.close()
    return np.max(found, axis=0)


def compare_all(figures):
    """Every engine, instruction set, solver and configuration."""
    solvers = [name for name, row in OPTIMIZERS.items() if row.stochastic]
    solvers = [name for name in solvers if name in LEARNING_RATES]
    for engine_name in ("cython", "numba"):
        engine = get_engine(engine_name)
        threads = THREADS if engine_name == "cython" else (1,)
        before = engine.instruction_set()
        for instruction_set in engine.supported_instruction_sets():
            engine.set_instruction_set(instruction_set)
            name = f"{engine_name} {instruction_set}".replace("numba numba", "numba")
            for dtype in (np.float64, np.float32):
                distances = [
                    compare(engine, options, solver, dtype, threads)
                    for options in CONFIGURATIONS
                    for solver in solvers
                ]
                weights, losses = np.max(distances, axis=0)
                kind = np.dtype(dtype).name
                if dtype == np.float64:
                    figures.add(f"{name} {kind}: weights from the reference", float(weights),
                                reference.FLOAT64_TOLERANCE)  # fmt: skip
                figures.add(
                    f"{name} {kind}: losses from the reference, relative", float(losses),
                    reference.FLOAT64_TOLERANCE if dtype == np.float64
                    else reference.FLOAT32_LOSS_TOLERANCE,
                )  # fmt: skip
        engine.set_instruction_set(before)


def list_edges():
    """Yield name, estimator, X, y at the edge of what numbers can do."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 6)), rng.integers(0, 3, 200)
    t = X[:, 0]
    constant = X.copy()
    constant[:, 2] = 7.0
    all_constant = np.full_like(X, 3.0)
    for dtype in ("float32", "float64"):
        common = dict(dtype=dtype, max_iter=10, random_state=0)
        C = lambda **s: BackpropClassifier(**{**common, **s})  # noqa: E731, B023
        R = lambda **s: BackpropRegressor(**{**common, **s})  # noqa: E731, B023
        yield f"logits of 1e4, {dtype}", C(hidden_layer_sizes=(), max_iter=3), X * 1e4, y
        yield f"features of 1e30, {dtype}", C(), X * 1e30, y
        for solver in ("sgd", "adam", "lbfgs"):
            yield f"targets of 1e30, {solver}, {dtype}", R(solver=solver), X, t * 1e30
            yield f"constant feature, {solver}, {dtype}", R(solver=solver), constant, t
            yield f"constant features, {solver}, {dtype}", C(solver=solver), all_constant, y
            yield f"constant target, {solver}, {dtype}", R(solver=solver), X, np.full(200, 5.0)
        yield f"batches of one row, {dtype}", C(batch_size=1), X, y
        yield f"one row, {dtype}", R(), X[:1], t[:1]
        yield f"50 layers, relu, {dtype}", C(hidden_layer_sizes=(12,) * 50), X, y
        yield f"50 layers, tanh, {dtype}", R(hidden_layer_sizes=(12,) * 50, activation="tanh"), X, t
        yield f"width 5000, {dtype}", C(hidden_layer_sizes=(5000,), max_iter=2), X, y
        yield f"width 5000 twice, {dtype}", C(hidden_layer_sizes=(5000, 5000), max_iter=1), X, y
        yield f"5000 features, {dtype}", C(max_iter=2), rng.standard_normal((200, 5000)), y
        yield f"rate of 1e6, {dtype}", R(solver="sgd", learning_rate_init=1e6), X, t
        yield f"rate of 1e-30, {dtype}", R(solver="sgd", learning_rate_init=1e-30), X, t
        yield f"epsilon of 1e-300, {dtype}", C(epsilon=1e-300), X, y
        yield f"Poisson counts of 1e6, {dtype}", R(loss="poisson"), X, np.round(np.abs(t) * 1e6)
        yield f"alpha of 1e30, {dtype}", C(alpha=1e30), X, y


def try_edge(model, X, y):
    """Return "finite", "a clear error", or what is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        try:
            model.fit(X, y)
        except ValueError as error:
            return "a clear error" if "non-finite" in str(error) else f"unclear: {error}"
        numbers = [*model.coefs_, *model.intercepts_, np.array(model.loss_), model.predict(X)]
        if hasattr(model, "predict_proba"):
            numbers += [model.predict_proba(X), model.predict_log_proba(X)]
    return "finite" if all(np.isfinite(part).all() for part in numbers) else "silent NaN"


def check_raw_scores(figures):
    """Losses of scores up to 1e4 in size keep their digits: no logarithm of a probability."""
    engine = get_engine()
    for loss in LOSSES:
        if loss not in reference.LOSSES or LOSSES[loss].task == "regression":
            continue
        for dtype, most in ((np.float64, 1e-12), (np.float32, 1e-5)):
            problem = draw_problem((1, 3), loss=loss, n_samples=40)
            params = np.array([1e4, -1e4, 1e4, 0, 0, 0])
            X = np.where(np.arange(40) % 2, -1.0, 1.0)[:, None]
            value, _ = reference.loss_and_gradient(params, (1, 3), (), loss, X, problem.targets)
            session = open_session(engine, problem, dtype, batch_size=40)
            got = session.loss_and_gradient(
                params.astype(dtype), X.astype(dtype), problem.targets.astype(dtype), None,
                alpha=0.0, gradient=np.zeros(6, dtype),
            )  # fmt: skip
            session.close()
            name = f"{loss} of scores +-1e4, {np.dtype(dtype).name}: relative error"
            figures.add(name, float(abs(got / value - 1)), most)


def main():
    figures = Figures("numbers")
    compare_all(figures)
    check_raw_scores(figures)
    for name, model, X, y in list_edges():
        outcome = try_edge(model, X, y)
        figures.require(name, outcome in ("finite", "a clear error"), outcome)
    figures.finish()


if __name__ == "__main__":
    main()
