"""Deliberate faults for the mutation check: one small change each, and the tests that come first.

A fault is a text that stands once in a file (or in its `nth` place) and what replaces it.  The list
holds mistakes that a person could make: signs, factors, sums that lose a row, barriers, checks.
"""

from dataclasses import dataclass

from checks import ENGINE_TESTS

ENGINE = (*ENGINE_TESTS, "-k", "not numba")
RUNS = ("tests/test_engine_runs.py",)
NUMBA = ("tests/test_numba_engine.py", *ENGINE_TESTS, "-k", "numba")


@dataclass(frozen=True)
class Fault:
    """A change that the tests must notice."""

    what: str
    path: str
    old: str
    new: str
    tests: tuple = ENGINE
    nth: int = 0

    def put_into(self, folder):
        """Change the file in a copy of the checkout."""
        path = folder / self.path
        parts = path.read_text(encoding="utf-8").split(self.old)
        if len(parts) - 1 <= self.nth:
            raise LookupError(f"{self.path} no longer holds: {self.old}")
        before, after = parts[: self.nth + 1], parts[self.nth + 1 :]
        text = self.old.join(before) + self.new + self.old.join(after)
        path.write_text(text, encoding="utf-8")


def native(what, name, old, new, tests=ENGINE, **place):
    return Fault(what, f"fastbp/engine/native/{name}", old, new, tests, **place)


def python(what, name, old, new, *tests, **place):
    return Fault(what, f"fastbp/{name}", old, new, tuple(f"tests/{t}" for t in tests), **place)


LOSSES = [
    native("squared error: wrong sign of the gradient", "losses.h",
           "r * r * (REAL)0.5, r)", "r * r * (REAL)0.5, -r)"),
    native("elementwise losses: sample weight dropped", "losses.h",
           "vec factor = load(weights + i) * scale, total = {0};",
           "vec factor = splat(scale), total = {0};", nth=0),
    native("binary log loss: gradient 1 % too large", "losses.h",
           "q - y * s, p - y)", "q - y * s, (p - y) * (REAL)1.01)"),
    native("log loss: gradient 1 % too small", "losses.h",
           "((p - hit) * factor)", "((p - hit) * factor * (REAL)0.99)"),
    native("log loss: sample weight dropped", "losses.h",
           "vec code = load(targets + i), factor = load(weights + i) * scale;",
           "vec code = load(targets + i), factor = splat(scale);"),
    native("Poisson: target 1 % too large in the gradient", "losses.h",
           "- y + mean, mean - y)", "- y + mean, mean - y * (REAL)1.01)"),
    native("log loss: the largest score is not taken off", "losses.h",
           "vec shifted = load(s + n * capacity) - top, e", "vec shifted = load(s + n * capacity), e"),
    native("binary log loss: ln(1 + e) taken as e", "vector.h",
           "(vec){0}, s) + NAME(log1p)(e);", "(vec){0}, s) + e;"),
    native("losses: rows beyond the last get a delta", "losses.h",
           "(vec)((ivec)delta & exists)", "delta"),
]  # fmt: skip

FORMULAS = [
    native("tanh: slope 1 - a", "activations.h", "d * ((REAL)1 - at * at)", "d * ((REAL)1 - at)"),
    native("logistic: slope 1 - a", "activations.h",
           "d * at * ((REAL)1 - at)", "d * ((REAL)1 - at)"),
    native("silu: the factor 1 - p of the slope", "activations.h",
           "(REAL)1 - p, e * p)", "(REAL)1 - p, p)"),
    native("slopes kept in the forward pass are not what the backward pass reads", "rows.pxd",
           "layer.a if layer.slopes == NULL else layer.slopes", "layer.a"),
    python("log1p: the rounding error of 1 + x is dropped", "engine/numba/elementary.py",
           "f = (m - one) + error * down", "f = m - one", "test_numba_engine.py"),
    native("relu: slope 1 everywhere", "product.h",
           "(load(gate + at) == (REAL)0)", "(load(gate + at) < (REAL)0)"),
    native("relu: swallows NaN", "vector.h",
           "(vec)((ivec)x & ~(ivec)(x < (REAL)0))", "(vec)((ivec)x & (ivec)(x > (REAL)0))"),
    native("relu over CSR: swallows NaN", "activations.h",
           "FORWARD(relu, NAME(relu)(z))", "FORWARD(relu, (vec)((ivec)z & (ivec)(z > (REAL)0)))"),
    native("exp: a coefficient of its series", "vector.h", "1 / 24.0) * r2 + (r * (1 / 6.0)",
           "1 / 25.0) * r2 + (r * (1 / 6.0)"),
    native("sgd: sign of the momentum", "optimizers.h",
           "momentum * load(v + i) - rate * gradient", "rate * gradient - momentum * load(v + i)"),
    native("sgd: no look-ahead", "optimizers.h",
           "step = momentum * step - rate * gradient;", "step = momentum * step;"),
    native("Adam: bias correction of the next step", "optimizers.h",
           "sqrt(1 - pow(hyper[1], t))", "sqrt(1 - pow(hyper[1], t + 1))"),
    native("Adam: first moment 1 % of the gradient too large", "optimizers.h",
           "c1 = (REAL)(1 - h[1])", "c1 = (REAL)(1.01 - h[1])"),
    native("sgd: penalty not stepped along", "optimizers.h",
           "gradient = load(g + i) + l2 * old;\n        vec step", "gradient = load(g + i);\n        vec step"),
    native("Adam: squares of the new weights", "optimizers.h",
           "squares += old * old;\n        store(m + i, first);",
           "squares += gradient * old;\n        store(m + i, first);"),
]  # fmt: skip

PRODUCTS = [
    native("product: the last k of a panel is left out", "product.h",
           "int n = n_k - k0 < P ? (int)(n_k - k0) : P;",
           "int n = n_k - k0 < P ? (int)(n_k - k0) : P - 1;"),
    native("product: every block of k starts from the bias", "product.h",
           "k0 + n < n_k ? FB_AS_IT_IS : epilogue, k0 == 0, n", "k0 + n < n_k ? FB_AS_IT_IS : epilogue, 1, n"),
    native("product of one row: all panels get the first ones' biases", "product.h",
           "bias = bias ? bias + np * P : bias;", ""),
    native("weight gradient: later blocks of rows overwrite", "gradient.h",
           "accumulate || i > 0);\n    }", "accumulate);\n    }", nth=0),
    native("bias gradient: the last rows are left out", "gradient.h",
           "for (; i < rows; i++)\n                sum[0]", "for (; i + 1 < rows; i++)\n                sum[0]"),
    native("output bias: blocks of rows overwrite", "gradient.h",
           "g[n] = accumulate ? g[n] + total : total;", "g[n] = total;"),
    native("weight gradient of one row: overwrites blocks of rows before it", "gradient.h",
           "(accumulate ? load(g + v * VL) : (vec){0}) + scalar", "(vec){0} + scalar"),
    native("gather: reads past the last row", "rearrange.h",
           "if (rest && from + P <= end)", "if (rest && from <= end)",
           ("tests/test_checks.py", "-k", "random_sessions")),
    native("padding: one column too many is kept", "rearrange.h",
           "NAME(lanes_below)(keep, n_valid);", "NAME(lanes_below)(keep, n_valid + 1);"),
    native("sparse gradient: the first column of a share is left out", "sparse.h",
           "if (k < k0 || k >= k1)", "if (k <= k0 || k >= k1)"),
    native("sparse gradient: only the first panel is cleared", "sparse.h",
           "(size_t)(n_panels * P)", "(size_t)(P)"),
    native("sparse product: reads past the weights", "sparse.h",
           "if (row + np * P <= w_end)", "if (row <= w_end)",
           ("tests/test_checks.py", "-k", "random_sessions")),
    native("finiteness: whole vectors are not looked at", "template.h",
           "return NAME(sum)(total) + rest == 0;", "return rest == 0;"),
    native("shuffle: the last partner is never drawn", "shuffle.c",
           "accepted = j <= i;", "accepted = j < i;"),
    native("shuffle: a mask is kept beyond its power of two", "shuffle.c",
           "half = mask >> 1;", "half = 0;"),
]  # fmt: skip

STEPS = [
    native("no barrier before the gradients", "minibatch.pxd",
           "stop = meet(f, worker, n_workers, worker == 0 and must_stop(f, float_state))",
           "stop = worker == 0 and must_stop(f, float_state)"),
    native("no barrier after the updates", "minibatch.pxd",
           "meet(f, worker, n_workers, False)\n        start += n", "start += n"),
    native("no barrier before the columns' product", "minibatch.pxd",
           "meet(f, worker, n_workers, False)\n    forward_own", "forward_own"),
    native("barrier opens one worker early", "team.c",
           "for (int other = 0; other < n_workers; other++)\n        if",
           "for (int other = 0; other < n_workers - 1; other++)\n        if"),
    native("barrier: what worker 0 said last, not what it said then", "team.c",
           "get(&team->posts[0].flags[before & 1])", "get(&team->posts[0].flags[~before & 1])"),
    native("the second chunk begins within a vector", "division.pxd",
           "return -first_chunk(f, n_rows) & (f.net.lanes - 1) if index == 1 else 0", "return 0"),
    native("sum of weights: the number of rows", "minibatch.pxd",
           "if f.call.sample_weight == NULL:\n        return", "if True:\n        return"),
    native("loss: rows are not weighted", "minibatch.pxd",
           "if f.call.sample_weight != NULL:", "if False:"),
    native("stopping: tolerance with the wrong sign", "epochs.pxd",
           "loss > rule.best_loss - rule.tol", "loss > rule.best_loss + rule.tol"),
    native("weights that are not finite go unnoticed", "epochs.pxd",
           "not (isfinite(losses[epoch]) and all_parameters_finite(f))", "not isfinite(losses[epoch])"),
    native("the caller's float state is not restored", "epochs.pxd",
           "            f.now.n_seen = first\n    fb_restore_float_state(float_state)",
           "            f.now.n_seen = first"),
    native("the learning rate of the first step for all", "minibatch.pxd",
           "f.call.rates[f.now.step if f.call.n_rates > 1 else 0]", "f.call.rates[0]"),
    native("penalty on the output's bias", "units.pxd",
           "u.n_biases, 0, bias_h", "u.n_biases, 0.1, bias_h"),
    native("biases of a layer's later panels: those of the first", "layout.pxi",
           "layer.bias_at + p0 * P, n_panels * P if k0", "layer.bias_at, n_panels * P if k0"),
    native("the penalty in the loss is left out where there is one", "optimizers.h",
           "return l2 == 0 ? 0 :", "return l2 != 0 ? 0 :"),
    native("row losses of a small minibatch are left out", "minibatch.pxd",
           "    if whole == 0:\n        return total", "    if whole == 0:\n        return 0"),
    native("the transpose is not refreshed", "units.pxd",
           "        if layer.wt != NULL:\n            transpose_panel", "        if False:\n            transpose_panel"),
    native("by columns: one panel of each share", "rows.pxd",
           "p1 = u.p0 + u.n_panels", "p1 = p0 + 1"),
    native("a block's last row is left out by threads", "division.pxd",
           "* f.net.lanes, all.rows)", "* f.net.lanes, all.rows - (n_workers > 2))"),
    native("the mean over outputs is not taken", "session.pxi",
           "1.0 / f.net.n_outputs if mean_gradient else 1.0", "1.0"),
    native("penalty twice in the loss of L-BFGS", "session.pxi", "value += 0.5 * l2", "value += l2"),
    native("prediction: the last columns of flat weights", "prediction.pxi",
           "if rest and not layer.sparse:", "if False:"),
    native("layers that do not fit together are predicted with", "arguments.pxi",
           "and (width < 0 or cnp.PyArray_DIM(W, 0) == width)", ""),
    native("optimiser's state is not taken", "session.pxi",
           "            if slots is not None:\n", "            if False:\n"),
    native("steps begin at 0 again", "session.pxi", "        f.now.t = t\n", "        f.now.t = 0\n"),
    native("a RandomState is not given back", "session.pxi",
           "        random_state.set_state(state)\n", ""),
    native("64-bit indices are read as 32-bit", "arguments.pxi",
           "X.indptr.dtype.itemsize)", "4)"),
    native("no memory goes unnoticed", "memory.pxi", "if block == NULL:", "if False:",
           ("tests/test_checks.py",)),
    native("the samples of an interrupted epoch count", "session.pxi",
           "return self.plan.now.n_counted", "return self.plan.now.n_seen",
           ("tests/test_engine_sessions.py", "tests/test_training.py")),
]  # fmt: skip

MEMBERS = [
    native("members: the weights' gradient is not multiplied", "members.h",
           "old + r[k] * slope);\n            sum", "old + slope);\n            sum"),
    native("members: the last panel gives nothing to the multipliers' gradient", "members.h",
           "sum[k] += load(w + at) * slope;",
           "sum[k] += p + 1 < n_panels ? load(w + at) * slope : (vec){0};"),
    native("members: the gradient of the sum of their losses", "members.pxd",
           "scale / f.net.n_members, 0", "scale, 0"),
    native("members: each one's multipliers go on with the last step's gradient", "members.pxd",
           "layer.out_panels, accumulate, later_block)", "layer.out_panels, accumulate, accumulate)"),
    native("members: W_m of the next one is not made", "members.pxd",
           "0 if m == last else m + 1", "0 if m == last else m"),
    native("members: no barrier before the first step", "members.pxd",
           "write_own_rows(f, worker, n_workers, 0)\n    meet(f, worker, n_workers, False)",
           "write_own_rows(f, worker, n_workers, 0)"),
    native("members: all leave out the same units", "layout.pxi",
           "own.number = <uint64_t>l + (<uint64_t>m << 32)", "own.number = <uint64_t>l"),
    native("members: multipliers do not count for the gradient's norm", "units.pxd",
           "total += squares_at(f, scales_of(u, i), u.n_scales, 0)", "pass"),
    native("members: decay acts on multipliers", "units.pxd",
           "u.n_scales, 0,\n                     bias_h)", "u.n_scales, 0,\n                     f.now.h)"),
    native("runs: what CSR rows gave to U is not cleared", "members.h",
           "store(u + at, is_read ? slope : zero);", "store(u + at, slope);", RUNS),
    native("runs: what is read from the row after is not cleared", "members.h",
           "                    store(after + at, zero);\n", "", RUNS),
    native("runs: the gradient does not run back", "members.h",
           "slope += load(after + at);", "slope += zero;", RUNS),
    native("runs: the gradient is not multiplied", "members.h",
           "old + r[k] * slope);\n                sum", "old + slope);\n                sum", RUNS),
    native("runs: the last elements of a row are not added to", "members.h",
           "v[j] = before[j] + r[k] * w[j]", "v[j] = r[k] * w[j]", RUNS),
    native("runs: few rows do not pass through their runs", "prediction.pxi",
           "slots[k - 1] = passed", "pass", RUNS),
    Fault("runs, Numba: weights are not summed", "fastbp/engine/numba/members.py",
          "            if continues[k]:\n                out", "            if False:\n                out",
          RUNS),
    Fault("runs: the first bin has a bin before", "fastbp/tabular/runs.py",
          "bins - is_later", "bins - 1", ("tests/test_tabular_runs.py",)),
    Fault("runs: a missing value is stored", "fastbp/tabular/runs.py",
          "values[:, :pieces][np.isnan(values[:, :pieces])] = 0", "pass",
          ("tests/test_tabular_runs.py",)),
    Fault("members, Numba: the multipliers' gradient of a later block replaces",
          "fastbp/engine/numba/members.py",
          "        if later_block:\n            total", "        if False:\n            total", NUMBA),
    python("members: a row's features are multiplied by the first one's scales", "engine/members.py",
           "scales[:, np.newaxis]", "scales[[0] * len(scales), np.newaxis]",
           "test_engine_members.py"),
    python("members: output weights are not penalised", "engine/network.py",
           "(n_members * n_weights, True)", "(n_members * n_weights, False)",
           "test_engine_members.py"),
]  # fmt: skip

TRAINING = [
    python("early stopping keeps the last weights", "training/watching.py",
           "progress.best_params = copy_params() if params is None else params", "pass",
           "test_training.py", "test_validation_data.py"),
    python("early stopping: any improvement counts", "training/stopping.py",
           "score >= self.best + self.tol", "score >= self.best", "test_parity.py", "test_training.py"),
    python("early stopping: NaN counts as improvement", "training/stopping.py",
           "score >= self.best + self.tol", "not score < self.best + self.tol",
           "test_validation_data.py"),
    python("a validation loss that is NaN is swallowed", "training/watching.py",
           "if np.isnan(self.progress.validation_loss_curve[-1]):", "if False:",
           "test_validation_data.py"),
    python("validation data are blamed for weights that diverge", "training/watching.py",
           "if predicts_finite_scores(self.problem, training.current_params()):", "if True:",
           "test_validation_data.py"),
    python("t_ counts epochs", "training/minibatches.py",
           "progress.t += (done - 1) * len(self.order) + session.n_seen", "progress.t += done",
           "test_parity.py"),
    python("divergence is swallowed", "training/minibatches.py",
           "if not session.finite or self.hides_failure():", "if self.hides_failure():",
           "test_divergence.py"),
    python("scores that overflow are swallowed", "training/watching.py",
           "return bool(np.isfinite(params).all() and np.isfinite(scores).all())", "return True",
           "test_checks.py", "test_divergence.py"),
    python("partial_fit forgets the optimiser", "training/steps.py",
           "if incremental and old:", "if False:", "test_parity.py", "test_estimators.py"),
    python("invscaling begins a sample early", "schedules.py",
           "(n_samples_seen + 1) ** self.power_t", "n_samples_seen**self.power_t", "test_schedules.py"),
    python("adaptive divides by 4", "schedules.py", "SHRINK = 5.0", "SHRINK = 4.0",
           "test_schedules.py"),
    python("initial biases are 0", "engine/network.py",
           "random_state.uniform(-bound, bound, biases.shape) if init", "0.0 if init",
           "test_network.py"),
    python("every layer has the first one's factor", "engine/network.py",
           "activations[min(layer, len(activations) - 1)]", "activations[0]",
           "test_network.py", "test_user_functions.py"),
    python("validation score without weights", "training/scoring.py",
           "weight = 1.0 if sample_weight is None else sample_weight[:, np.newaxis]", "weight = 1.0",
           "test_parity.py", "test_training.py"),
    python("validation set is not stratified", "training/scoring.py",
           "stratify=problem.targets[:, 0] if binary else None", "stratify=None",
           "test_parity.py"),
    python("negative weights pass", "data/weights.py", "if weights.min() < 0:",
           "if weights.min() < -1e9:", "test_targets.py"),
    python("a failed fit draws from the stream", "training/randomness.py",
           "    yield random_state, bits\n    lender.set_state",
           "    try:\n        yield random_state, bits\n    finally:\n        lender.set_state",
           "test_validation.py", "test_estimators.py"),
    python("sparse y is not looked at", "data/targets.py",
           'check_sparse_structure(y, "y")', "pass", "test_targets.py"),
    python("columns of CSR may be one too large", "data/features.py",
           "indices.max() >= size", "indices.max() > size", "test_features.py"),
    python("probabilities of two classes exchanged", "estimators/classifier.py",
           "np.where(second_is_larger, pair[:, ::-1], pair)",
           "np.where(second_is_larger, pair, pair[:, ::-1])", "test_estimators.py"),
    python("classes that do not fit the outputs", "estimators/attributes.py",
           "return len(classes) == n_outputs", "return True", "test_attributes.py"),
    python("more threads than cores", "engine/parallel.py", "else min(n_threads, available)",
           "else n_threads", "test_parallel.py"),
    python("the lender's stream is not advanced", "training/randomness.py",
           "    lender.set_state(random_state.get_state(legacy=False))\n", "", "test_parity.py",
           "test_estimators.py"),
    python("L-BFGS: iterations not counted", "training/lbfgs.py",
           "self.last_loss, self.n_iter + 1", "self.last_loss, self.n_iter", "test_parity.py",
           "test_training.py"),
    python("L-BFGS: its gradient is overwritten", "training/lbfgs.py",
           "return self.last_loss, self.gradient.copy()", "return self.last_loss, self.gradient * 1.01",
           "test_parity.py", "test_estimators.py"),
]  # fmt: skip

MEMORY = [
    native("fingerprint: two changed signs cancel", "fingerprint.c",
           "return product << 29 | product >> 35;", "return product;", ("tests/test_sameness.py",)),
    native("fingerprint: the last bytes are not read", "fingerprint.c",
           "memcpy(rest, at, left);", "", ("tests/test_sameness.py",)),
    python("the past is believed on other data", "training/resuming.py",
           "problem = weights and are_same(\"goal\", \"problem\")", "problem = weights", "test_sameness.py"),
    python("edited weights count as those of the last call", "training/resuming.py",
           "weights = \"weights\" in before and before[\"weights\"] == identify_weights(\n"
           "        engine, past[\"coefs_\"], past[\"intercepts_\"]\n    )",
           "weights = True", "test_sameness.py"),
    python("alpha is no part of the objective", "training/sameness.py",
           "digest(entries, settings.alpha, ", "digest(entries, ", "test_sameness.py"),
    python("inspection forgets class weights", "data/problem.py",
           'known = vars(probe).get("_class_weights")', "known = None",
           "test_inspection.py"),
    python("targets stay in the units of the user", "data/problem.py",
           "targets = estimator._scale(targets, weights, X.dtype, fresh=fresh)", "pass",
           "test_inspection.py"),
    python("a diverging fit gives its last weights", "training/watching.py",
           "progress.params, progress.holds_best, progress.optimizer = progress.best_params, True, None",
           "progress.optimizer = None", "test_validation_data.py"),
    python("outliers of X_val are taken for another scale", "data/held_out.py",
           "(n_out >= share * n_these) & (log_chance < np.log(CHANCE))", "n_out > 0",
           "test_diagnosis.py"),
]  # fmt: skip

SECOND_ENGINE = [
    Fault("Numba: penalty on biases", "fastbp/engine/numba/minibatch.py",
          "begin, n, 0.0, bias_constants", "begin, n, 0.1, bias_constants",
          NUMBA),
    Fault("Numba: rows are not weighted in the loss", "fastbp/engine/numba/blocks.py",
          "buffers.row_loss[i] * weights[i]", "buffers.row_loss[i]", NUMBA),
    Fault("Numba: later blocks are not added", "fastbp/engine/numba/minibatch.py",
          "progress.gradient[i] += progress.part[i]", "progress.gradient[i] = progress.part[i]", NUMBA),
    Fault("formulas: sample weight dropped", "fastbp/engine/numba/loops.py",
          "gradient * (weights[i] * scale)", "gradient * scale",
          ("tests/test_user_functions.py",)),
    Fault("formulas: a value that is not finite goes unnoticed", "fastbp/engine/numba/loops.py",
          "n_spoilt = add_freely(n_spoilt, spoilt(y, z))", "pass",
          ("tests/test_user_functions.py",)),
]  # fmt: skip

# A sanitizer must see it, too: `python -m checks.sanitize address --fault -1`.
LEAK = native("blocks are not given back", "memory.pxi",
              "            fb_release(<void *><size_t>block)\n\n\ndef", "            pass\n\n\ndef",
              ("tests/test_checks.py", "-k", "memory_back"))  # fmt: skip

FAULTS = LOSSES + FORMULAS + PRODUCTS + STEPS + MEMBERS + TRAINING + MEMORY + SECOND_ENGINE + [LEAK]
