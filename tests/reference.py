"""The whole trainer in plain NumPy and float64: the judge of every engine.

Here live the textbook formulas - forward pass, losses of raw scores, chain rule, L2, sample
weights, optimisers, epochs of minibatches in a given order - written for reading and sharing no
line with fastbp. Nothing of fastbp may be imported here. A row of a fastbp table without an entry
in the tables below makes the tests fail with a sentence.

Parameters are one flat vector: per layer the weights ``(n_in, n_out)`` in C order, then the biases
``(n_out,)``. Members share the hidden layers; behind these come the multipliers of each one's
inputs ``(n_members, n_features)``, all output weights ``(n_members, n_hidden, n_outputs)`` and all
output biases ``(n_members, n_outputs)``.
"""

import numpy as np
from scipy import optimize, sparse, special

# How far an engine may be from this file after ten epochs: weights (absolute) and losses (relative)
# in float64, losses (relative) in float32. Single float32 weights are not compared: a ReLU that
# flips its sign, amplified by Adam, moves them by 1e-2.
FLOAT64_TOLERANCE = 1e-10
FLOAT32_LOSS_TOLERANCE = 5e-5


def normal_density(z):
    """Density of the standard normal distribution."""
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def mish_slope(z):
    """Slope of z tanh(softplus(z)) by the product rule."""
    softplus = np.logaddexp(0, z)
    return np.tanh(softplus) + z * special.expit(z) / np.cosh(np.minimum(softplus, 350)) ** 2


# Klambauer et al. 2017, section 1: alpha and lambda.
ALPHA, LAMBDA = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

# Activation: value(z) and slope(z) of a pre-activation array.
ACTIVATIONS = {
    "identity": (lambda z: z, np.ones_like),
    "logistic": (special.expit, lambda z: special.expit(z) * special.expit(-z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(np.clip(z, -350, 350)) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "leaky_relu": (lambda z: np.maximum(z, z / 100), lambda z: np.where(z > 0, 1, 1 / 100)),
    "elu": (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.exp(np.minimum(z, 0)),
    ),
    "selu": (
        lambda z: LAMBDA * np.where(z > 0, z, ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: LAMBDA * np.where(z > 0, 1, ALPHA * np.exp(np.minimum(z, 0))),
    ),
    "gelu": (
        lambda z: np.maximum(z, -1e300) * special.ndtr(z),
        lambda z: special.ndtr(z) + z * normal_density(z),
    ),
    "silu": (
        lambda z: np.maximum(z, -1e300) * special.expit(z),
        lambda z: special.expit(z) * (1 + z * special.expit(-z)),
    ),
    "mish": (lambda z: np.maximum(z, -1e300) * np.tanh(np.logaddexp(0, z)), mish_slope),
    "softplus": (lambda z: np.logaddexp(0, z), special.expit),
}


def one_hot(targets, n_outputs):
    """Rows of the unit matrix for class codes ``targets (n, 1)``."""
    return np.eye(n_outputs)[targets[:, 0].astype(int)]


def huber(delta):
    """Quadratic up to delta, then linear (Huber 1964)."""
    return (
        lambda y, s: special.huber(delta, s - y).sum(axis=1),
        lambda y, s: np.clip(s - y, -delta, delta),
        False,
    )


def pinball(q):
    """Loss of one quantile (Koenker & Bassett 1978)."""
    return (
        lambda y, s: np.maximum(q * (y - s), (q - 1) * (y - s)).sum(axis=1),
        lambda y, s: np.where(s > y, 1 - q, np.where(s < y, -q, 0)),
        False,
    )


def levels_of(raw):
    """Quantiles that cannot cross: cumulative sums of the first score and positive steps."""
    return np.cumsum(np.hstack([raw[:, :1], np.logaddexp(0, raw[:, 1:])]), axis=1)


def non_crossing_quantiles(levels):
    """Mean pinball loss of several quantiles of one target; the chain rule by the full Jacobian."""
    q = np.array(levels)

    def value(y, s):
        error = y - levels_of(s)
        return np.maximum(q * error, (q - 1) * error).mean(axis=1)

    def gradient(y, s):
        slopes = np.where(levels_of(s) > y, 1 - q, -q) / len(q)
        steps = np.hstack([np.ones_like(s[:, :1]), special.expit(s[:, 1:])])
        # d level_k / d s_j = steps_j for j <= k
        return np.einsum("ik,kj,ij->ij", slopes, np.tri(len(q)), steps)

    return value, gradient, False


def tweedie(p):
    """Half the unit deviance of power p (Jorgensen 1987) at the mean exp(s)."""

    def value(y, s):
        whole = (
            y ** (2 - p) / ((1 - p) * (2 - p))
            - y * np.exp((1 - p) * s) / (1 - p) + np.exp((2 - p) * s) / (2 - p)
        )  # fmt: skip
        return whole.sum(axis=1)

    return value, lambda y, s: np.exp((2 - p) * s) - y * np.exp((1 - p) * s), False


def smooth(targets, smoothing):
    """Targets with the share `smoothing` spread evenly over the columns."""
    return (1 - smoothing) * targets + smoothing / targets.shape[1]


def smoothed_log_loss(smoothing):
    """Cross-entropy of smoothed one-hot targets."""
    return (
        lambda y, s: (
            -(smooth(one_hot(y, s.shape[1]), smoothing) * special.log_softmax(s, axis=1)).sum(
                axis=1
            )
        ),
        lambda y, s: special.softmax(s, axis=1) - smooth(one_hot(y, s.shape[1]), smoothing),
        False,
    )


def smoothed_binary_log_loss(smoothing):
    """Log loss of targets moved towards one half."""
    return (
        lambda y, s: (np.logaddexp(0, s) - (y * (1 - smoothing) + smoothing / 2) * s).sum(axis=1),
        lambda y, s: special.expit(s) - (y * (1 - smoothing) + smoothing / 2),
        False,
    )


def focal(gamma):
    """-(1 - p)^gamma log p (Lin et al. 2017) of the softmax probability of the class."""

    def value(y, s):
        log_p = (one_hot(y, s.shape[1]) * special.log_softmax(s, axis=1)).sum(axis=1)
        return -((-np.expm1(log_p)) ** gamma) * log_p

    def gradient(y, s):
        hot, p_all = one_hot(y, s.shape[1]), special.softmax(s, axis=1)
        log_p = (hot * special.log_softmax(s, axis=1)).sum(axis=1, keepdims=True)
        p, q = np.exp(log_p), -np.expm1(log_p)
        by_log_p = gamma * q ** (gamma - 1) * p * log_p - q**gamma
        return by_log_p * (hot - p_all)

    return value, gradient, False


def binary_focal(gamma):
    """-(1 - p)^gamma log p of the logistic probability of the true answer."""

    def parts(y, s):
        margin = np.where(y > 0, s, -s)
        return special.expit(margin), special.expit(-margin), special.log_expit(margin)

    def value(y, s):
        _, q, log_p = parts(y, s)
        return (-(q**gamma) * log_p).sum(axis=1)

    def gradient(y, s):
        p, q, log_p = parts(y, s)
        by_log_p = gamma * q ** (gamma - 1) * p * log_p - q**gamma
        return by_log_p * q * np.where(y > 0, 1, -1)

    return value, gradient, False


# Loss: value(targets, raw) per sample, gradient(targets, raw) of the sum over outputs, and whether
# value is the mean over outputs; of parameterised ones at the settings in fastbp's table.
LOSSES = {
    "absolute_error": (lambda y, s: abs(y - s).sum(axis=1), lambda y, s: np.sign(s - y), False),
    "huber": huber(1.0),
    "quantile": pinball(0.5),
    "quantiles": non_crossing_quantiles([0.1, 0.5, 0.9]),
    "gamma": (
        lambda y, s: (s - np.log(y) + y * np.exp(-s) - 1).sum(axis=1),
        lambda y, s: 1 - y * np.exp(-s),
        False,
    ),
    "tweedie": tweedie(1.5),
    "smoothed_log_loss": smoothed_log_loss(0.1),
    "smoothed_binary_log_loss": smoothed_binary_log_loss(0.1),
    "focal": focal(2.0),
    "binary_focal": binary_focal(2.0),
    "squared_error": (
        lambda y, s: 0.5 * ((y - s) ** 2).mean(axis=1),
        lambda y, s: s - y,
        True,
    ),
    "poisson": (
        lambda y, s: (special.xlogy(y, y) - y * s - y + np.exp(s)).sum(axis=1),
        lambda y, s: np.exp(s) - y,
        False,
    ),
    "log_loss": (
        lambda y, s: special.logsumexp(s, axis=1) - (one_hot(y, s.shape[1]) * s).sum(axis=1),
        lambda y, s: special.softmax(s, axis=1) - one_hot(y, s.shape[1]),
        False,
    ),
    "binary_log_loss": (
        lambda y, s: (np.logaddexp(0, s) - y * s).sum(axis=1),
        lambda y, s: special.expit(s) - y,
        False,
    ),
}


def sgd(w, g, slots, learning_rate, t, hyper):
    """Gradient descent with momentum, with Nesterov's look-ahead on request."""
    if hyper["momentum"] == 0:
        return w - learning_rate * g, slots
    velocity = hyper["momentum"] * slots[0] - learning_rate * g
    if hyper["nesterovs_momentum"]:
        return w + hyper["momentum"] * velocity - learning_rate * g, [velocity]
    return w + velocity, [velocity]


def adam(w, g, slots, learning_rate, t, hyper):
    """Adam as in scikit-learn: the step size carries the bias corrections, epsilon is outside."""
    m = hyper["beta_1"] * slots[0] + (1 - hyper["beta_1"]) * g
    v = hyper["beta_2"] * slots[1] + (1 - hyper["beta_2"]) * g**2
    step_size = learning_rate * np.sqrt(1 - hyper["beta_2"] ** t) / (1 - hyper["beta_1"] ** t)
    return w - step_size * m / (np.sqrt(v) + hyper["epsilon"]), [m, v]


def adamw(w, g, slots, learning_rate, t, hyper):
    """Adam, and besides every parameter loses a share of itself."""
    moved, slots = adam(w, g, slots, learning_rate, t, hyper)
    return moved - learning_rate * hyper["weight_decay"] * w, slots


def rmsprop(w, g, slots, learning_rate, t, hyper):
    """Gradient over the root of its running mean square, with momentum on that quotient."""
    mean_square = hyper["beta_2"] * slots[0] + (1 - hyper["beta_2"]) * g**2
    direction = hyper["momentum"] * slots[1] + g / (np.sqrt(mean_square) + hyper["epsilon"])
    return w - learning_rate * direction, [mean_square, direction]


def lion(w, g, slots, learning_rate, t, hyper):
    """Sign of a mix of momentum and gradient; the momentum follows more slowly."""
    direction = np.sign(hyper["beta_1"] * slots[0] + (1 - hyper["beta_1"]) * g)
    mean = hyper["beta_2"] * slots[0] + (1 - hyper["beta_2"]) * g
    return w - learning_rate * (direction + hyper["weight_decay"] * w), [mean]


# Optimiser: number of slots and one step; lbfgs takes no steps and has a function, `minimize`.
OPTIMIZERS = {
    "sgd": (1, sgd),
    "adam": (2, adam),
    "adamw": (2, adamw),
    "rmsprop": (2, rmsprop),
    "lion": (1, lion),
    "lbfgs": (0, None),
}


def split_mix(x):
    """Return number ``x`` (uint64, counted from 0) of the SplitMix64 stream with seed 0."""
    z = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draw_kept(rate, n_units, seed, t, layer, places, member=0):
    """Return which units of a hidden layer are kept, bool (len(places), n_units).

    ``t`` steps were done before the epoch, in whose order the samples have these ``places``.
    """
    number = [np.array([n], np.uint64) for n in (seed, t, layer + 2**32 * member)]
    key = split_mix(split_mix(split_mix(number[0]) + number[1]) + number[2])
    words = split_mix(key + np.asarray(places, np.uint64))[:, None]
    x = words.astype(np.uint32) + np.arange(n_units, dtype=np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x += (words >> np.uint64(32)).astype(np.uint32)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x >= rate * 2**32


def find(table, kind, name):
    """Return the entry of one of the tables above, or fail with a sentence."""
    if name not in table:
        raise LookupError(f"no reference for {kind} {name!r}")
    return table[name]


def find_activation(name):
    """Return (value, slope) of an activation."""
    return find(ACTIVATIONS, "activation", name)


def find_loss(loss):
    """Return (value, gradient, is_mean) of a loss, which may be such a triple itself."""
    return loss if isinstance(loss, tuple) else find(LOSSES, "loss", loss)


def find_optimizer(name):
    """Return (n_slots, update) of an optimiser."""
    return find(OPTIMIZERS, "optimizer", name)


def multiply(left, right, layer):
    """Return a product of two of a layer's three matrices: its input, its weights, its delta.

    Another such function in its place shows what other arithmetic in products does.
    """
    return left @ right


def count_parameters(layer_sizes):
    """Return the length of the flat vector."""
    return sum((n_in + 1) * n_out for n_in, n_out in zip(layer_sizes[:-1], layer_sizes[1:]))


def split(params, layer_sizes):
    """Return [(W, b), ...], views of the flat vector."""
    layers, start = [], 0
    for n_in, n_out in zip(layer_sizes[:-1], layer_sizes[1:]):
        middle, end = start + n_in * n_out, start + (n_in + 1) * n_out
        layers.append((params[start:middle].reshape(n_in, n_out), params[middle:end]))
        start = end
    return layers


def split_members(params, layer_sizes, n_members):
    """Return [(W, b), ...] of the hidden layers, scales, output weights and biases: all views."""
    *hidden, n_outputs = layer_sizes
    shared = count_parameters(hidden)
    sizes = n_members * np.array([hidden[0], hidden[-1] * n_outputs, n_outputs])
    scales, W, b = np.split(params[shared:], np.cumsum(sizes)[:-1])
    return (
        split(params[:shared], hidden),
        scales.reshape(n_members, hidden[0]),
        W.reshape(n_members, hidden[-1], n_outputs),
        b.reshape(n_members, n_outputs),
    )


def count_parameters_of_members(layer_sizes, n_members):
    """Return the length of the flat vector of a network of members."""
    *hidden, n_outputs = layer_sizes
    own = hidden[0] + (hidden[-1] + 1) * n_outputs
    return count_parameters(hidden) + n_members * own


def member_network(params, layer_sizes, n_members, member):
    """Return the flat vector of one member as a network of its own on its multiplied inputs."""
    layers, _, W, b = split_members(params, layer_sizes, n_members)
    parts = [part.ravel() for layer in layers for part in layer]
    return np.concatenate([*parts, W[member].ravel(), b[member]])


def predict_members(params, layer_sizes, n_members, activations, X):
    """Return the raw scores of every member (n_members, n, n_outputs)."""
    params, X = as_float64(params), as_float64(X)
    _, scales, _, _ = split_members(params, layer_sizes, n_members)
    return np.array([
        predict(member_network(params, layer_sizes, n_members, m), layer_sizes, activations, X * r)
        for m, r in enumerate(scales)
    ])  # fmt: skip


def loss_and_gradient_of_members(
    params,
    layer_sizes,
    n_members,
    activations,
    loss,
    X,
    targets,
    sample_weight=None,
    *,
    alpha=0.0,
    mean_gradient=False,
    masks=None,
    multiply=multiply,
):
    """Return the mean of the members' losses with the penalty on all weights, and its gradient.

    ``masks``: for each member those of `forward`.
    """
    X, params = as_float64(X), as_float64(params)
    weight = np.ones(len(X)) if sample_weight is None else as_float64(sample_weight)
    _, scales, _, _ = split_members(params, layer_sizes, n_members)
    is_weight = find_weights(layer_sizes, n_members)
    total = 0.5 * alpha * (params[is_weight] ** 2).sum() / weight.sum()
    flat = np.where(is_weight, alpha * params / weight.sum(), 0.0)
    grad_layers, grad_scales, grad_W, grad_b = split_members(flat, layer_sizes, n_members)
    for m, r in enumerate(scales):
        value, gradient, input_gradient = propagate(
            member_network(params, layer_sizes, n_members, m), layer_sizes, activations, loss,
            X * r, targets, weight, mean_gradient=mean_gradient,
            masks=None if masks is None else masks[m], multiply=multiply,
        )  # fmt: skip
        total += value / n_members
        *shared, (W, b) = split(gradient / n_members, layer_sizes)
        for mine, (of_W, of_b) in zip(grad_layers, shared, strict=True):
            mine[0][:] += of_W
            mine[1][:] += of_b
        grad_W[m] += W
        grad_b[m] += b
        grad_scales[m] += (input_gradient * X).sum(axis=0) / n_members
    return total, flat


def find_weights(layer_sizes, n_members=None):
    """Return which parameters are weights, on which penalty and decay act."""
    if n_members is None:
        is_weight = np.zeros(count_parameters(layer_sizes), bool)
        layers = split(is_weight, layer_sizes)
    else:
        is_weight = np.zeros(count_parameters_of_members(layer_sizes, n_members), bool)
        layers, _, output_weights, output_biases = split_members(is_weight, layer_sizes, n_members)
        layers = [*layers, (output_weights, output_biases)]
    for W, _ in layers:
        W[:] = True
    return is_weight


def forward(params, layer_sizes, activations, X, masks=None, multiply=multiply):
    """Return the pre-activations of every layer (the last: raw scores) and the activations.

    ``masks``: what each hidden layer's activations are multiplied by, under dropout.
    """
    layers = split(params, layer_sizes)
    pre_activations, outputs = [], [X]
    for layer, (W, b) in enumerate(layers):
        pre_activations.append(multiply(outputs[-1], W, layer) + b)
        if layer < len(layers) - 1:
            value, _ = find_activation(activations[layer])
            outputs.append(value(pre_activations[-1]) * (1 if masks is None else masks[layer]))
    return pre_activations, outputs


def predict(params, layer_sizes, activations, X, multiply=multiply):
    """Return the raw scores (n, n_outputs)."""
    job = (as_float64(params), layer_sizes, activations, as_float64(X))
    return forward(*job, multiply=multiply)[0][-1]


def as_float64(X):
    """Return a dense float64 copy of an array or a sparse matrix."""
    return np.array(X.toarray() if sparse.issparse(X) else X, dtype=np.float64)


def loss_and_gradient(
    params,
    layer_sizes,
    activations,
    loss,
    X,
    targets,
    sample_weight=None,
    *,
    alpha=0.0,
    mean_gradient=False,
    masks=None,
    multiply=multiply,
):
    """Return the weighted mean loss plus 0.5 alpha |W|^2 / sum(weights), and its flat gradient.

    The gradient is that of the loss summed over outputs (the direction in which scikit-learn's
    solvers step), or with ``mean_gradient`` that of the value returned.
    """
    value, gradient, _ = propagate(
        params, layer_sizes, activations, loss, X, targets, sample_weight, alpha=alpha,
        mean_gradient=mean_gradient, masks=masks, multiply=multiply,
    )  # fmt: skip
    return value, gradient


def propagate(
    params,
    layer_sizes,
    activations,
    loss,
    X,
    targets,
    sample_weight=None,
    *,
    alpha=0.0,
    mean_gradient=False,
    masks=None,
    multiply=multiply,
):
    """As `loss_and_gradient`, and the gradient of the data's loss by the inputs X comes third."""
    X, targets, params = as_float64(X), as_float64(targets), as_float64(params)
    weight = np.ones(len(X)) if sample_weight is None else as_float64(sample_weight)
    value, gradient, is_mean = find_loss(loss)
    pre_activations, outputs = forward(params, layer_sizes, activations, X, masks, multiply)
    raw, layers = pre_activations[-1], split(params, layer_sizes)
    penalty = 0.5 * alpha * sum((W**2).sum() for W, _ in layers)
    total = (weight @ value(targets, raw) + penalty) / weight.sum()

    delta = gradient(targets, raw) * weight[:, None] / weight.sum()
    if mean_gradient and is_mean:
        delta /= layer_sizes[-1]
    flat = np.zeros_like(params)
    for layer in reversed(range(len(layers))):
        W, _ = layers[layer]
        grad_W, grad_b = split(flat, layer_sizes)[layer]
        grad_W[:] = multiply(outputs[layer].T, delta, layer) + alpha * W / weight.sum()
        grad_b[:] = delta.sum(axis=0)
        delta = multiply(delta, W.T, layer)
        if layer:
            _, slope = find_activation(activations[layer - 1])
            delta *= slope(pre_activations[layer - 1])
            delta *= 1 if masks is None else masks[layer - 1]
    return total, flat, delta


def draw_masks(dropout, layer_sizes, seed, t, places, member):
    """Return what each hidden layer's activations are multiplied by, at these rates."""
    return [
        draw_kept(p, layer_sizes[layer + 1], seed, t, layer, places, member) / (1 - p)
        for layer, p in enumerate(dropout)
    ]


def train(
    params,
    layer_sizes,
    activations,
    loss,
    X,
    targets,
    sample_weight,
    orders,
    *,
    batch_size,
    alpha,
    learning_rate,
    optimizer,
    hyper,
    slots=None,
    t=0,
    max_grad_norm=np.inf,
    ema_decay=None,
    dropout=None,
    seed=0,
    n_members=None,
    multiply=multiply,
):
    """Return (params, losses, slots, t) after one epoch per entry of ``orders``.

    ``learning_rate`` is a number or one value per step. A minibatch whose weights sum to 0 counts
    for nothing. With ``ema_decay`` the average of the parameters comes fifth. ``dropout`` has one
    rate per hidden layer.
    """
    is_weight = find_weights(layer_sizes, n_members)
    average, without_decay = as_float64(params), hyper | {"weight_decay": 0.0}
    X, targets, params = as_float64(X), as_float64(targets), as_float64(params)
    n_slots, update = find_optimizer(optimizer)
    slots = np.zeros((n_slots, len(params))) if slots is None else as_float64(slots)
    n_steps = sum(-(-len(order) // batch_size) for order in orders)
    rates = iter(np.broadcast_to(learning_rate, n_steps))
    losses = []
    for order in orders:
        total, t_before = 0.0, t
        for start in range(0, len(order), batch_size):
            rows, rate = order[start : start + batch_size], next(rates)
            weight = None if sample_weight is None else as_float64(sample_weight)[rows]
            if weight is not None and weight.sum() == 0:
                continue
            masks, places = None, start + np.arange(len(rows))
            if dropout is not None:
                masks = [
                    draw_masks(dropout, layer_sizes, seed, t_before, places, member)
                    for member in range(n_members or 1)
                ]
            job = (activations, loss, X[rows], targets[rows], weight)
            if n_members is None:
                value, gradient = loss_and_gradient(
                    params,
                    layer_sizes,
                    *job,
                    alpha=alpha,
                    masks=masks and masks[0],
                    multiply=multiply,
                )
            else:
                value, gradient = loss_and_gradient_of_members(
                    params,
                    layer_sizes,
                    n_members,
                    *job,
                    alpha=alpha,
                    masks=masks,
                    multiply=multiply,
                )
            total += value * len(rows)
            t += 1
            gradient *= min(1, max_grad_norm / max(np.linalg.norm(gradient), 1e-300))
            moved, new_slots = update(params, gradient, slots, rate, t, hyper)
            biases_moved, _ = update(params, gradient, slots, rate, t, without_decay)
            params, slots = np.where(is_weight, moved, biases_moved), new_slots
            if ema_decay is not None:
                decay = min(ema_decay, (1 + t) / (10 + t))
                average = decay * average + (1 - decay) * params
        losses.append(total / len(order))
    if ema_decay is not None:
        return params, np.array(losses), slots, t, average
    return params, np.array(losses), slots, t


def minimize(
    params,
    layer_sizes,
    activations,
    loss,
    X,
    targets,
    sample_weight,
    *,
    alpha,
    tol,
    max_iter,
    max_fun,
):
    """Return scipy's L-BFGS-B result on the true mean loss."""
    job = (layer_sizes, activations, loss, X, targets, sample_weight)
    return optimize.minimize(
        lambda p: loss_and_gradient(p, *job, alpha=alpha, mean_gradient=True),
        as_float64(params),
        method="L-BFGS-B",
        jac=True,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
    )


def draw_parameters(layer_sizes, random_state, factor=6.0, output=None):
    """Return Glorot-uniform weights and biases of a flat vector (biases from the same bound).

    ``output``: what the biases of the last layer are set to after they were drawn.
    """
    parts = []
    for n_in, n_out in zip(layer_sizes[:-1], layer_sizes[1:]):
        bound = np.sqrt(factor / (n_in + n_out))
        parts.append(random_state.uniform(-bound, bound, n_in * n_out))
        parts.append(random_state.uniform(-bound, bound, n_out))
    if output is not None:
        parts[-1] = np.broadcast_to(output, n_out)
    return np.concatenate(parts)


def draw_parameters_of_members(layer_sizes, n_members, random_state):
    """Return such values of a network of members, with multipliers around 1 and -1."""
    parts = [draw_parameters(layer_sizes[:-1], random_state)]
    scales = random_state.choice([-1.0, 1.0], (n_members, layer_sizes[0]))
    parts.append(scales + random_state.uniform(-0.3, 0.3, scales.shape))
    outputs = [draw_parameters(layer_sizes[-2:], random_state) for _ in range(n_members)]
    n_weights = layer_sizes[-2] * layer_sizes[-1]
    parts += [output[:n_weights] for output in outputs] + [output[n_weights:] for output in outputs]
    return np.concatenate([part.ravel() for part in parts])
