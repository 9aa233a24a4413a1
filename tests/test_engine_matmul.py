"""Products of rounded operands: their bits, their errors, and whole trainings with them.

What a path computes is told twice here in NumPy: `tiles` is the tile unit of AMX and the path
"emulation", `vectors` the path "avx512_bf16".  The reference trainer with operands rounded by
`rounded` then judges everything around the products.
"""

import itertools
from contextlib import closing

import numpy as np
import pytest
import reference
from covering import cover_pairs, naming
from engines import ENGINES
from problems import HYPERPARAMETERS, LEARNING_RATES, draw_problem
from sessions import (
    N_OUTPUTS,
    SOLVERS,
    THREADS,
    draw_orders,
    draw_problem_once,
    open_session,
    read_params,
    read_slots,
)

from fastbp.activations import ACTIVATIONS
from fastbp.engine import get_engine, network
from fastbp.losses import LOSSES
from fastbp.optimizers import OPTIMIZERS

TERMS = {"medium": 1, "high": 2}
MODES = [
    (path, precision)
    for path in (get_engine("cython").supported_matmul_paths() if "cython" in ENGINES else ())
    for precision in TERMS
    if path != "none" and (path, precision) != ("avx512_bf16", "high")
]
SEED = 2**40 + 7
NARROW = 8  # outputs of an output layer whose products stay float32


# Shapes of tests in every mode are large enough for each path to take them: 1.3 MFLOP a step.


@pytest.fixture(params=MODES, ids="-".join)
def mode(request, compiled_engine):
    """The compiled engine on one path, and a precision that it has there."""
    before = compiled_engine.get_matmul_path()
    compiled_engine.set_matmul_path(request.param[0])
    yield compiled_engine, request.param[1]
    compiled_engine.set_matmul_path(before)


@pytest.fixture
def emulation(compiled_engine):
    """The compiled engine on the path that rounds everything, whatever the shape."""
    before = compiled_engine.get_matmul_path()
    compiled_engine.set_matmul_path("emulation")
    yield compiled_engine
    compiled_engine.set_matmul_path(before)


# --- the same in NumPy ----------------------------------------------------------------------------


def to_bf16(x):
    """Return float32 values rounded to bfloat16; subnormal ones become 0."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    bits = np.where(bits & 0x7F800000, bits, bits & 0x80000000).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.where(np.isnan(x), np.float32(np.nan), rounded.astype(np.uint32).view(np.float32))


def terms_of(x, precision):
    """Return the one or two bfloat16 of an operand."""
    first = to_bf16(x)
    return [first] if precision == "medium" else [first, to_bf16(x - first)]


def pairs_of_terms(A, B, precision):
    """Return the pairs of terms that are multiplied, in their order."""
    A, B = terms_of(A, precision), terms_of(B, precision)
    return [(A[0], B[0])] if len(A) == 1 else [(A[0], B[0]), (A[0], B[1]), (A[1], B[0])]


def pad(A, B, multiple):
    """Return both with as many more k of 0 as make whole multiples."""
    n = -A.shape[1] % multiple
    return np.pad(A, ((0, 0), (0, n))), np.pad(B, ((0, n), (0, 0)))


def tiles(A, B, start, precision):
    """Return start + A B in the order of tiles.  (Products of bfloat16 are exact in float32.)"""
    A, B = pad(A.astype(np.float32), B.astype(np.float32), 32)
    total = np.broadcast_to(start, (len(A), B.shape[1])).astype(np.float32)
    for k, (left, right) in itertools.product(
        range(0, A.shape[1], 32), pairs_of_terms(A, B, precision)
    ):
        sums = np.zeros((2, *total.shape), np.float32)
        for odd, j in itertools.product((0, 1), range(k, k + 32, 2)):
            sums[odd] += left[:, j + odd, None] * right[j + odd]
        total = total + (sums[0] + sums[1])
    return total


def vectors(A, B, start, precision):
    """Return start + A B in the order of vdpbf16ps: a pair's odd k, then its even one."""
    A, B = pad(A.astype(np.float32), B.astype(np.float32), 2)
    total = np.broadcast_to(start, (len(A), B.shape[1])).astype(np.float32)
    ((left, right),) = pairs_of_terms(A, B, precision)
    for j in range(0, A.shape[1], 2):
        total = total + left[:, j + 1, None] * right[j + 1]
        total = total + left[:, j, None] * right[j]
    return total


def twin_of(engine):
    """Return the product of the engine's path in NumPy."""
    return vectors if engine.get_matmul_path() == "avx512_bf16" else tiles


def rounded(precision, layer_sizes):
    """Return the products of the reference with rounded operands, wherever the engine has them."""

    def multiply(left, right, layer):
        if layer == len(layer_sizes) - 2 and layer_sizes[-1] <= NARROW:
            return left @ right
        pairs = pairs_of_terms(left.astype(np.float32), right.astype(np.float32), precision)
        return sum(a.astype(float) @ b.astype(float) for a, b in pairs)

    return multiply


# --- bits -----------------------------------------------------------------------------------------


def draw_matrix(rng, *shape):
    """Return float32 values of many sizes, some 0, some that are subnormal in bfloat16."""
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-12, 12, shape)
    values[rng.random(shape) < 0.05] = 0.0
    values[rng.random(shape) < 0.02] *= 1e-39
    return values.astype(np.float32)


@pytest.mark.parametrize("sizes", [(64, 80, 48), (77, 63, 57), (97, 360, 10), (65, 36, 97)])
def test_scores_have_the_bits_of_the_twin(mode, sizes):
    """Whole and partial tiles in every direction; more rows than a block holds."""
    engine, precision = mode
    n, n_in, n_out = sizes
    rng = np.random.default_rng(0)
    X, W, b = (draw_matrix(rng, *shape) for shape in ((n, n_in), (n_in, n_out), (n_out,)))
    scores = np.empty((n, n_out), np.float32)
    assert engine.predict_into([W], [b], (), X, scores, 1, precision)
    assert scores.tobytes() == twin_of(engine)(X, W, b, precision).tobytes()
    alone = np.empty_like(scores)
    for i in range(0, n, 30):
        engine.predict_into([W], [b], (), X[i : i + 30], alone[i : i + 30], 3, precision)
    assert scores.tobytes() == alone.tobytes()


def compute_gradient(engine, problem, precision, params, batch_size, X=None, targets=None):
    """Return loss and gradient of a fresh session."""
    X, targets = problem.X if X is None else X, problem.targets if targets is None else targets
    session = open_session(
        engine, problem, np.float32, batch_size=batch_size, matmul_precision=precision
    )
    with closing(session):
        assert session.matmul_precision == precision
        return gradient_of(session, params, X, targets)


def gradient_of(session, params, X, targets):
    """Return loss and gradient of a session."""
    gradient = np.full(len(params), np.nan, np.float32)
    X, targets = np.ascontiguousarray(X, np.float32), np.ascontiguousarray(targets, np.float32)
    value = session.loss_and_gradient(params, X, targets, None, alpha=0.0, gradient=gradient)
    return value, gradient


@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(64, 80, 43), (128, 300, 90)])
def test_weight_gradients_have_the_bits_of_the_twin(mode, rows, n_in, n_out):
    """Scores that are 0 leave a delta that is known, as the number of rows is a power of 2."""
    engine, precision = mode
    problem = draw_problem((n_in, n_out), n_samples=rows)
    rng = np.random.default_rng(0)
    X, y = draw_matrix(rng, rows, n_in), draw_matrix(rng, rows, n_out)
    params = np.zeros_like(problem.params, np.float32)
    _, gradient = compute_gradient(engine, problem, precision, params, rows, X, y)
    expected = twin_of(engine)(X.T, -y / rows, np.float32(0), precision)
    assert gradient[: n_in * n_out].tobytes() == (expected + np.float32(0)).tobytes()


def test_input_gradients_have_the_bits_of_the_twin(emulation):
    """Of a single row the gradients of biases are its deltas."""
    problem = draw_problem((5, 45, 37), n_samples=1, activation="identity")
    params = problem.params.astype(np.float32)
    for precision in TERMS:
        _, gradient = compute_gradient(emulation, problem, precision, params, 1)
        (_, below), (_, delta) = reference.split(gradient, problem.sizes)
        W = reference.split(params, problem.sizes)[1][0]
        expected = tiles(delta[None], W.T, np.float32(0), precision)[0]
        assert below.tobytes() == expected.tobytes()


# --- errors ---------------------------------------------------------------------------------------

# Largest errors of a product beside the root mean square of its results: eight and sixteen bits of
# operands, 256 of which are summed.
BOUNDS = {"medium": 2e-2, "high": 5e-5}


def test_errors_are_bounded(mode):
    """Forward, weight gradient and, through both, the input gradient, against float64."""
    engine, precision = mode
    problem = draw_problem_once((256, 48, 20, 3), n_samples=96, activation="tanh")
    X, targets, _, params = problem.in_dtype(np.float32)
    value, gradient = compute_gradient(engine, problem, precision, params, 96)
    exact_value, exact = reference.loss_and_gradient(
        params, problem.sizes, problem.activations, problem.loss, X, targets
    )
    assert value == pytest.approx(exact_value, rel=BOUNDS[precision])
    assert value != pytest.approx(exact_value, rel=1e-9)
    for (W, b), found in zip(
        reference.split(exact, problem.sizes), reference.split(gradient, problem.sizes), strict=True
    ):
        for part, ours in zip((W, b), found, strict=True):
            error = abs(ours - part).max() / np.sqrt((part**2).mean())
            assert error < 2 * BOUNDS[precision]


def test_precisions_are_in_order(emulation):
    """ "medium" is less precise than "high", and that than "highest"."""
    problem = draw_problem_once((40, 30, 20, 12), n_samples=64, activation="tanh")
    X, targets, _, params = problem.in_dtype(np.float32)
    _, exact = reference.loss_and_gradient(
        params, problem.sizes, problem.activations, problem.loss, X, targets
    )
    errors = [
        abs(compute_gradient(emulation, problem, precision, params, 64)[1] - exact).max()
        for precision in ("highest", "high", "medium")
    ]
    assert 4 * errors[0] < errors[1] < errors[2] / 50


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_what_is_not_finite_reaches_the_loss(mode, value):
    """3.4e38 is a float32, but infinite in bfloat16: weights that make it harmless do not help."""
    engine, precision = mode
    problem = draw_problem((60, 70, 12), n_samples=70, activation="identity")
    X, targets, _, params = problem.in_dtype(np.float32)
    X[33, 7] = value
    reference.split(params, problem.sizes)[0][0][7] = 1e-36
    loss, gradient = compute_gradient(engine, problem, precision, params, 70, X, targets)
    assert not np.isfinite(loss)
    assert not np.isfinite(gradient).all()
    exact, _ = compute_gradient(engine, problem, "highest", params, 70, X, targets)
    assert np.isfinite(exact) == np.isfinite(value)


def test_padding_is_never_read(mode):
    """A session whose buffers are full of NaN computes what a fresh one does."""
    engine, precision = mode
    sizes = (75, 52, 41, 9)
    for rows, activation in itertools.product((33, 65, 97), ("relu", "softplus")):
        problem = draw_problem(sizes, n_samples=128, activation=activation)
        X, targets, _, params = problem.in_dtype(np.float32)
        some = X[:rows], targets[:rows]
        fresh = compute_gradient(engine, problem, precision, params, 128, *some)
        session = open_session(
            engine, problem, np.float32, batch_size=128, matmul_precision=precision
        )
        with naming(rows, activation), closing(session):
            poisoned, _ = gradient_of(session, params, np.full_like(X, np.nan), targets)
            assert np.isnan(poisoned)
            value, gradient = gradient_of(session, params, *some)
            assert value == fresh[0]
            assert gradient.tobytes() == fresh[1].tobytes()


# --- trainings ------------------------------------------------------------------------------------

EXTRAS = {
    "plain": {},
    "dropout": dict(rates=[0.3, 0.2]),
    "norm": dict(max_grad_norm=0.05),
    "average": dict(ema_decay=0.9),
    "all": dict(rates=[0.1, 0.4], max_grad_norm=0.1, ema_decay=0.5),
}
# A float32 that the engine rounds otherwise than the reference may be the other bfloat16, or lie on
# the other side of a kink. Most losses are nearer by a thousand times ("high": by ten).
LOSS_TOLERANCE = {"medium": 2e-4, "high": 2e-6}
OUTPUTS = {loss: n if loss == "quantiles" else n + 7 for loss, n in N_OUTPUTS.items()}
TRAININGS = cover_pairs(
    ACTIVATIONS, LOSSES, SOLVERS, list(TERMS), EXTRAS, ["plain", "weighted"], ["narrow", "wide"]
)


def train(session, problem, *, solver="adam", n_epochs=2, batch_size=40, rates=None, **options):
    """Train on shuffled rows; return losses, parameters, slots, average and scores."""
    X, targets, weight, _ = problem.in_dtype(np.float32)
    session.set_optimizer(OPTIMIZERS[solver], HYPERPARAMETERS[solver], **options)
    if rates is not None:
        session.set_dropout(rates, SEED)
    losses, average = np.zeros(n_epochs), np.empty(len(problem.params), np.float32)
    session.train(
        X, targets, weight, np.arange(X.shape[0]), shuffle=np.random.RandomState(0),
        batch_size=batch_size, alpha=0.01, learning_rate=LEARNING_RATES[solver] / 4,
        n_epochs=n_epochs, losses=losses,
    )  # fmt: skip
    session.average_into(average)
    return (
        losses,
        read_params(session, problem, np.float32),
        read_slots(session, problem, np.float32, solver),
        average,
    )


def check_against_reference(engine, problem, precision, solver, **extra):
    """Train both and compare the losses."""
    X, targets, weight, params = problem.in_dtype(np.float32)
    job = dict(
        batch_size=40, alpha=0.01, learning_rate=LEARNING_RATES[solver] / 4, optimizer=solver,
        hyper=HYPERPARAMETERS[solver], seed=SEED, dropout=extra.get("rates"),
        max_grad_norm=extra.get("max_grad_norm") or np.inf, ema_decay=extra.get("ema_decay"),
    )  # fmt: skip
    expected = reference.train(
        params, problem.sizes, problem.activations, problem.loss, X, targets, weight,
        draw_orders(len(X), 2), **job, multiply=rounded(precision, problem.sizes),
    )  # fmt: skip
    session = open_session(engine, problem, np.float32, batch_size=40, matmul_precision=precision)
    with closing(session):
        found = train(session, problem, solver=solver, **extra)
    np.testing.assert_allclose(found[0], expected[1], rtol=LOSS_TOLERANCE[precision])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_trainings_equal_the_reference(emulation, activation):
    """Every two of activation, loss, solver, precision, extra, weights and width of the output."""
    for name, loss, solver, precision, extra, kind, output in TRAININGS:
        if name == activation:
            n_outputs = (OUTPUTS if output == "wide" else N_OUTPUTS)[loss]
            problem = draw_problem_once(
                (9, 20, 17, n_outputs), loss=loss, activation=activation, n_samples=60,
                weighted=kind == "weighted",
            )  # fmt: skip
            with naming(loss, solver, precision, extra, kind, output):
                check_against_reference(emulation, problem, precision, solver, **EXTRAS[extra])


def test_loops_in_float32_stay_as_they_are(emulation):
    """A path that is there, and not asked for, changes no bit; float64 never takes it."""
    problem = draw_problem_once((20, 33, 12), n_samples=70, activation="tanh")
    found = []
    for path, dtype, precision in [
        ("none", np.float32, "highest"), ("emulation", np.float32, "highest"),
        ("none", np.float32, "medium"), ("emulation", np.float32, "medium"),
        ("none", np.float64, "highest"), ("emulation", np.float64, "medium"),
    ]:  # fmt: skip
        emulation.set_matmul_path(path)
        session = open_session(emulation, problem, dtype, matmul_precision=precision)
        with closing(session):
            X, targets, _, params = problem.in_dtype(dtype)
            gradient = np.empty_like(params)
            session.loss_and_gradient(params, X, targets, None, alpha=0.0, gradient=gradient)
            found.append((session.matmul_precision, gradient.tobytes()))
    assert found[0] == found[1] == found[2]
    assert found[3][0] == "medium"
    assert found[3][1] != found[0][1]
    assert found[4] == found[5]


# --- threads, chunks, columns, members ------------------------------------------------------------

THREAD_CASES = {
    "one block": (dict(sizes=(54, 70, 40, 12), n_samples=100, activation="tanh"), 70),
    "columns": (dict(sizes=(300, 50, 12), n_samples=80), 32),
    "chunks": (dict(sizes=(12, 17, 9), n_samples=1100, activation="gelu"), 1100),
    "blocks": (dict(sizes=(12, 20, 3), n_samples=1059, loss="log_loss", weighted=True), 1059),
    "sparse": (dict(sizes=(60, 56, 50, 20), n_samples=100, density=0.2), 70),
}


def train_everywhere(engine, problem, precision, batch_size, threads, n_members, extra):
    """Return bytes of all that a session gives."""
    X, targets, weight, params = problem.in_dtype(np.float32)
    session = open_session(
        engine, problem, np.float32, batch_size=batch_size, threads=threads, n_members=n_members,
        matmul_precision=precision,
    )  # fmt: skip
    with closing(session):
        found = train(session, problem, n_epochs=1, batch_size=batch_size, **extra)
        assert np.isfinite(found[1]).all()
        used = session.matmul_precision
        scores = np.zeros((n_members or 1, X.shape[0], problem.sizes[-1]), np.float32)
        session.predict_into(X, scores if n_members else scores[0])
        gradient = np.empty_like(params)
        value = session.loss_and_gradient(params, X, targets, weight, alpha=0.1, gradient=gradient)
    return used, [part.tobytes() for part in (*found, scores, gradient, np.array(value))]


@pytest.mark.parametrize("case", THREAD_CASES)
def test_threads_never_change_a_bit(mode, case):
    """Losses, weights, state, average, scores and gradient on 1, 2, 3 and 7 threads."""
    engine, precision = mode
    options, batch_size = THREAD_CASES[case]
    problem = draw_problem_once(**options)
    extra = EXTRAS["average" if case == "one block" else "plain"]
    used, expected = train_everywhere(engine, problem, precision, batch_size, 1, None, extra)
    assert used == precision
    for threads in THREADS[1:]:
        with naming(threads):
            _, found = train_everywhere(
                engine, problem, precision, batch_size, threads, None, extra
            )
            assert found == expected


def draw_member_problem(sizes, n_members, multipliers=None, **options):
    """Return a problem whose parameters are those of a network of members."""
    problem = draw_problem(sizes, **options)
    params = reference.draw_parameters_of_members(sizes, n_members, np.random.RandomState(1))
    if multipliers is not None:
        reference.split_members(params, sizes, n_members)[1][:] = multipliers
    return type(problem)(**{**vars(problem), "params": params})


@pytest.mark.parametrize("n_outputs", [3, 12])
def test_threads_never_change_a_bit_of_members(mode, n_outputs):
    engine, precision = mode
    problem = draw_member_problem(
        (33, 56, 40, n_outputs), 3, n_samples=75, activation="tanh", weighted=True
    )
    extra = EXTRAS["all" if n_outputs == 3 else "average"]
    used, expected = train_everywhere(engine, problem, precision, 60, 1, 3, extra)
    assert used == precision
    for threads in THREADS[1:]:
        with naming(threads):
            assert (
                train_everywhere(engine, problem, precision, 60, threads, 3, extra)[1] == expected
            )


@pytest.mark.parametrize("density", [None, 0.3], ids=["dense", "sparse"])
def test_gradients_of_members_equal_the_reference(emulation, density):
    """Members' multipliers go into the weights, where the reference has them in the inputs."""
    problem = draw_member_problem(
        (30, 40, 20, 12), 3, n_samples=66, activation="tanh", density=density
    )
    X, targets, _, params = problem.in_dtype(np.float32)
    value, expected = reference.loss_and_gradient_of_members(
        params, problem.sizes, 3, problem.activations, problem.loss, X, targets
    )
    for precision in TERMS:
        session = open_session(
            emulation, problem, np.float32, batch_size=50, n_members=3, matmul_precision=precision
        )
        with naming(precision), closing(session):
            gradient = np.empty_like(params)
            got = session.loss_and_gradient(params, X, targets, None, alpha=0.0, gradient=gradient)
        assert got == pytest.approx(value, rel=BOUNDS[precision])
        size = np.sqrt((expected**2).mean())
        assert abs(gradient - expected).max() < 4 * BOUNDS[precision] * size


def test_one_member_without_multipliers_is_an_ordinary_network(emulation):
    """The same bits of the gradient and of scores."""
    ordinary = draw_problem((20, 33, 17, 12), n_samples=66)
    *hidden, output = reference.split(ordinary.params, ordinary.sizes)
    coefs, intercepts = map(list, zip(*hidden, strict=True))
    members = [part[np.newaxis] for part in (np.ones(20), *output)]
    params = network.flatten(coefs, intercepts, np.float64, members)
    problem = type(ordinary)(**{**vars(ordinary), "params": params})
    for precision in TERMS:
        found = []
        for each, n_members in ((ordinary, None), (problem, 1)):
            X, targets, _, start = each.in_dtype(np.float32)
            session = open_session(
                emulation, each, np.float32, batch_size=66, n_members=n_members,
                matmul_precision=precision,
            )  # fmt: skip
            with closing(session):
                gradient, scores = np.empty_like(start), np.zeros((1, 66, 12), np.float32)
                value = session.loss_and_gradient(
                    start, X, targets, None, alpha=0.0, gradient=gradient
                )
                session.predict_into(X, scores if n_members else scores[0])
            shared = reference.count_parameters(ordinary.sizes[:-1])
            found.append((value, gradient[:shared].tobytes(), scores.tobytes()))
        assert found[0] == found[1]


# --- predictions ----------------------------------------------------------------------------------


def test_predictions_of_few_rows_are_float32(emulation):
    """A session's from 64 rows on are rounded, and have the bits of those of fitted arrays."""
    problem = draw_problem_once((20, 33, 17, 12), n_samples=64, activation="tanh")
    X, _, _, params = problem.in_dtype(np.float32)
    layers = network.views(params, problem.sizes)
    activations = [ACTIVATIONS[name] for name in problem.activations]
    for precision in TERMS:
        session = open_session(
            emulation, problem, np.float32, batch_size=32, matmul_precision=precision
        )
        with closing(session):
            for n in (63, 64):
                by_session, by_arrays = np.empty((2, n, 12), np.float32)
                session.predict_into(X[:n], by_session)
                asked = precision if n == 64 else "highest"
                emulation.predict_into(*layers, activations, X[:n], by_arrays, 1, asked)
                assert by_session.tobytes() == by_arrays.tobytes()
                expected = reference.predict(
                    params, problem.sizes, problem.activations, X[:n],
                    **({"multiply": rounded(precision, problem.sizes)} if n == 64 else {}),
                )  # fmt: skip
                # A rounded activation may be the other bfloat16.
                bound = 1e-5 if asked != "medium" else 2e-3
                np.testing.assert_allclose(by_session, expected, rtol=0, atol=bound)


def test_predictions_of_the_average_leave_training_alone(emulation):
    """Scores of the average, then training goes on with the parameters' own copies."""
    problem = draw_problem_once((20, 33, 12), n_samples=70, activation="tanh")
    X = problem.in_dtype(np.float32)[0]
    results = []
    for looks in (False, True):
        session = open_session(
            emulation, problem, np.float32, batch_size=40, matmul_precision="medium"
        )
        with closing(session):
            train(session, problem, ema_decay=0.99)
            if looks:
                scores, again = np.empty((2, 70, 12), np.float32)
                session.predict_into(X, scores)
                average = np.empty(len(problem.params), np.float32)
                session.average_into(average)
                emulation.predict_into(
                    *network.views(average, problem.sizes), [ACTIVATIONS["tanh"]], X, again, 1,
                    "medium",
                )  # fmt: skip
                assert scores.tobytes() == again.tobytes()
            losses = np.zeros(1)
            session.train(
                *problem.in_dtype(np.float32)[:2], None, None, shuffle=None, batch_size=40,
                alpha=0.01, learning_rate=0.01, n_epochs=1, losses=losses,
            )  # fmt: skip
            results.append((losses[0], read_params(session, problem, np.float32).tobytes()))
    assert results[0] == results[1]


# --- which products -------------------------------------------------------------------------------


def test_products_that_stay_float32(emulation):
    """Narrow outputs, a sparse first layer; where nothing else is left the answer is "highest"."""
    for sizes, density, expected in [
        ((20, 8), None, "highest"), ((20, 9), None, "medium"), ((20, 12), 0.5, "highest"),
        ((20, 16, 3), None, "medium"), ((20, 16, 3), 0.5, "highest"), ((9, 9, 9), 0.5, "medium"),
    ]:  # fmt: skip
        problem = draw_problem(sizes, density=density)
        session = open_session(emulation, problem, np.float32, matmul_precision="medium")
        with naming(sizes, density), closing(session):
            assert session.matmul_precision == expected


def test_small_steps_stay_float32(compiled_engine):
    """The processor's own path is taken from a size on that depends on shapes alone."""
    fast = compiled_engine.supported_matmul_paths()[0]
    for sizes, batch_size, is_large in [
        ((4, 10, 3), 32, False), ((256, 256, 10), 8, False), ((256, 256, 10), 256, True)
    ]:  # fmt: skip
        problem = draw_problem(sizes)
        session = open_session(
            compiled_engine, problem, np.float32, batch_size=batch_size, matmul_precision="medium"
        )
        with naming(sizes, batch_size), closing(session):
            taken = compiled_engine.get_matmul_path() == fast != "emulation"
            assert session.matmul_precision == ("medium" if taken and is_large else "highest")


def test_precision_of_inputs_is_that_of_the_first_layer(emulation):
    """It follows the path; later layers do not count; float64 and CSR are never asked about."""
    ask = emulation.precision_of_inputs
    for precision in ("highest", *TERMS):
        assert ask((20, 33, 3), 5, precision) == precision
        assert ask((20, 3), 5, precision) == "highest"  # narrow
    fast = emulation.supported_matmul_paths()[0]
    if fast != "emulation":
        emulation.set_matmul_path(fast)
        assert ask((64, 300, 300, 3), 200, "medium") == "medium"
        assert ask((7, 300, 300, 3), 200, "medium") == "highest"  # of few inputs
        assert ask((64, 300, 300, 3), 5, "medium") == "highest"
    emulation.set_matmul_path("none")
    assert ask((64, 300, 300, 3), 200, "medium") == "highest"
    with pytest.raises(ValueError, match=r"matmul_precision must be one of .*'low'"):
        ask((4, 9), 5, "low")


def test_paths_and_precisions_are_checked(compiled_engine):
    names = compiled_engine.supported_matmul_paths()
    assert names[-2:] == ["emulation", "none"]
    assert compiled_engine.get_matmul_path() in names
    with pytest.raises(ValueError, match=r"'mps' does not run here; choose one of .*emulation"):
        compiled_engine.set_matmul_path("mps")
    with pytest.raises(ValueError, match=r"matmul_precision must be one of .*'low'"):
        open_session(compiled_engine, draw_problem((4, 9)), np.float32, matmul_precision="low")
