"""A fitted network as one C99 file: weights as hexadecimal floats, a function, a self-test.

The text of the C program is here and nothing else of C is known to fastbp's exports.  An activation
or output transform is one line of a table; what has no line is refused.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.export.fitted import (
    FittedNetwork,
    TargetUnits,
    describe_fitted,
    plain_labels,
    predictions,
)
from fastbp.tables import Text, say_bytes
from fastbp.versions import __version__

RECEIVER = "C source"
MOST_BYTES = 20_000_000  # which are written without force=True; compilers need a hundredfold of it
BYTES_OF_NUMBER = {"float32": 17, "float64": 24}  # hexadecimal, with comma and indentation, about

# f(z), in double precision; for float the functions and constants get their suffix. The formulas
# are those of fastbp.activations, in the form that loses fewest digits.
ACTIVATIONS = {
    "identity": "z",
    "logistic": "z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z))",
    "tanh": "tanh(z)",
    "relu": "z < 0 ? 0 : z",
    "leaky_relu": "z < 0 ? 0.01 * z : z",
    "elu": "z < 0 ? expm1(z) : z",
    "selu": "1.0507009873554805 * (z < 0 ? 1.6732632423543772 * expm1(z) : z)",
    "gelu": "0.5 * z * erfc(-0.7071067811865476 * z)",
    "silu": "z < 0 ? z * exp(z) / (1 + exp(z)) : z / (1 + exp(-z))",
    "mish": "z * tanh(fmax(z, 0) + log1p(exp(-fabs(z))))",
    "softplus": "fmax(z, 0) + log1p(exp(-fabs(z)))",
}

# What becomes of the raw scores in `out`, for each output transform and kind of target.
ENDINGS = {
    ("identity", "regression"): "",
    ("scaled", "regression"): """\
    for (int j = 0; j < {n_outputs}; j++) /* in double: float loses the digits of a large mean */
        out[j] = (score[j] * y_factor[j] + y_shift[j]) * y_unit[j];
""",
    ("exp", "regression"): """\
    for (int j = 0; j < {n_outputs}; j++)
        out[j] = exp(out[j]);
""",
    ("logistic", "regression"): """\
    for (int j = 0; j < {n_outputs}; j++)
        out[j] = activate_logistic(out[j]);
""",
    ("logistic", "multilabel"): """\
    for (int j = 0; j < {n_outputs}; j++)
        out[j] = activate_logistic(out[j]);
""",
    ("logistic", "binary"): """\
    const int label = score > 0;
    const {T} smaller = activate_logistic(-fabs(score)); /* this one directly: no digits are lost */
    out[label] = 1 - smaller;
    out[1 - label] = smaller;
    return label;
""",
    ("softmax", "multiclass"): """\
    int label = 0;
    for (int j = 1; j < {n_outputs}; j++)
        if (out[j] > out[label])
            label = j;
    const {T} top = out[label];
    {T} total = 0;
    for (int j = 0; j < {n_outputs}; j++)
        total += out[j] = exp(out[j] - top);
    for (int j = 0; j < {n_outputs}; j++)
        out[j] /= total;
    return label;
""",
}

FUNCTION = """\
static {T} activate_{name}({T} z)
{{
    return {formula};
}}

"""

LAYER = """\
/* out[j] = b[j] + sum over k of x[k] W[k][j] */
static void layer(const {T} *W, const {T} *b, int n_in, int n_out, const {T} *x, {T} *out)
{{
    for (int j = 0; j < n_out; j++)
        out[j] = b[j];
    for (int k = 0; k < n_in; k++)
        for (int j = 0; j < n_out; j++)
            out[j] += x[k] * W[k * n_out + j];
}}

"""

ACTIVATE = """\
    for (int j = 0; j < {n_out}; j++)
        {out}[j] = activate_{activation}({out}[j]);
"""

SELF_TEST = """\

#ifdef FASTBP_SELF_TEST
#include <stdio.h>

#define N_SAMPLES {n_samples}

/* samples (N_SAMPLES, {n_features}), what fastbp predicted for them (N_SAMPLES, {n_columns}) */
static const {T} test_x[] = {{
{test_x}
}};
static const {R} test_out[] = {{
{test_out}
}};
{test_units}
int main(void)
{{
    {R} out[{n_columns}];
    double largest = 0;
    int failures = 0;
    for (int i = 0; i < N_SAMPLES; i++) {{
        const {R} *want = test_out + i * {n_columns};
        {call}{prefix}_predict(test_x + i * {n_features}, out);
        for (int j = 0; j < {n_columns}; j++) {{
            const double error = fabs((double)out[j] - want[j]) / ({size});
            largest = fmax(largest, error);
            failures += !(error <= {tolerance:.0e}); /* also where it is not a number */
        }}
{check}    }}
    printf("{name}: %d samples, largest error %.1e (allowed {tolerance:.0e}), %d failures\\n",
           N_SAMPLES, largest, failures);
    return failures != 0;
}}
#endif
"""

# What errors are divided by, and for a y that was scaled the numbers in it: its own units.
SIZE, SIZE_IN_UNITS = "1 + fabs((double)want[j])", "test_scale[j] + fabs(want[j] - test_mean[j])"
TEST_UNITS = """\
/* mean of y, and its standard deviation (or what an error of the last digit is divided by) */
static const double test_mean[] = {{
{mean}
}};
static const double test_scale[] = {{
{scale}
}};
"""

UNITS = """\
/* what turns scores into units of y: (score * y_factor + y_shift) * y_unit */
static const double y_factor[] = {{
{factor}
}};
static const double y_shift[] = {{
{shift}
}};
static const double y_unit[] = {{
{unit}
}};

"""

CHECK_LABEL = """\
        for (int j = 0; j < {n_columns}; j++)
            failures += out[j] > out[label];
"""


def write_c(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    name: str,
    X: ArrayLike | None,
    force: bool,
) -> Text:
    """Write a fitted estimator as C source; see its method `to_c`."""
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
        raise ValueError(f"name must be a C identifier, such as 'fastbp'. Got {name!r} instead.")
    outputs = {output for output, _ in ENDINGS if output != "scaled"}
    fitted = describe_fitted(estimator, RECEIVER, ACTIVATIONS, outputs)
    if not force:
        refuse_large(fitted)
    n_features = fitted.layer_sizes[0]
    if X is None:
        X = np.random.default_rng(0).standard_normal((8, n_features))
    samples = np.array(X, fitted.dtype, ndmin=2)
    if samples.ndim != 2 or samples.shape[1] != n_features or len(samples) == 0:
        raise ValueError(
            f"X must be dense with shape (n_samples, {n_features}). Got shape {samples.shape}."
        )
    if fitted.target_units is not None:  # X decides on the dtype of predictions
        wanted = predictions(estimator, samples.astype(np.float64)).astype(np.float64)
    else:
        wanted = predictions(estimator, samples).astype(fitted.dtype)
    text = compose(fitted, type(estimator).__name__, name, samples, wanted)
    size = Path(path).write_text(text, encoding="ascii")
    return Text(f"{os.fspath(path)}: {say_bytes(size)} of C for {fitted.n_params:,} parameters")


def refuse_large(fitted: FittedNetwork) -> None:
    """Raise where the file would be too large to be of use, before any of it is written."""
    size = BYTES_OF_NUMBER[fitted.dtype.name] * fitted.n_params
    if size > MOST_BYTES:
        raise ValueError(
            f"The C file of {fitted.n_params:,} parameters would have about {say_bytes(size)}, "
            f"more than the {say_bytes(MOST_BYTES)} that compilers take well. Use to_onnx or "
            "fastbp.save for a network of this size, fewer units, or force=True to write it."
        )


def compose(
    fitted: FittedNetwork,
    title: str,
    name: str,
    samples: NDArray[np.floating],
    wanted: NDArray[np.floating],
) -> str:
    """Return the text of the file.

    Parameters
    ----------
    fitted : FittedNetwork
    title : str
        What the network is, for the first comment.
    name : str
        Prefix of what the file defines.
    samples : ndarray of shape (n_samples, n_features)
    wanted : ndarray of shape (n_samples, n_columns)
        Predictions for `samples`: values or probabilities, in the dtype of the results.
    """
    sizes, kind, units = fitted.layer_sizes, fitted.kind, fitted.target_units
    has_label = kind in ("binary", "multiclass")
    facts = {
        "T": "float" if fitted.dtype == np.float32 else "double",
        "R": "float" if wanted.dtype == np.float32 else "double",
        "name": name,
        "prefix": name,
        "n_features": sizes[0],
        "n_outputs": sizes[-1],
        "n_columns": wanted.shape[1],
        "n_samples": len(samples),
        "result": "int" if has_label else "void",
        "tolerance": _tolerance(fitted),
    }
    called = [*dict.fromkeys(fitted.activations)]
    if fitted.output == "logistic" and "logistic" not in called:
        called.append("logistic")
    parts = [
        _comment(fitted, title, facts),
        "#include <math.h>\n\n",
        _classes(fitted, name),
        *(_weights(fitted, layer, facts["T"]) for layer in range(len(sizes) - 1)),
        "" if units is None else _units(units),
        *(_function(used, facts) for used in called if used != "identity"),
        LAYER.format(**facts),
        _predict(fitted, facts),
        SELF_TEST.format(
            **facts,
            test_x=_numbers(samples),
            test_out=_numbers(wanted),
            size=SIZE if units is None else SIZE_IN_UNITS,
            test_units="" if units is None else _test_units(units, facts["tolerance"]),
            call="const int label = " if has_label else "",
            check=CHECK_LABEL.format(**facts) if has_label else "",
        ),
    ]
    return "".join(parts)


def _units(units: TargetUnits) -> str:
    names = ("factor", "shift", "unit")
    return UNITS.format(**dict(zip(names, map(_numbers, units.factors), strict=True)))


def _test_units(units: TargetUnits, tolerance: float) -> str:
    """Units in which the self-test measures: an error of a result's last two bits is none."""
    last_digits = 4 * np.spacing(np.abs(units.mean) + units.scale) / tolerance
    scale = np.maximum(units.scale, last_digits)
    return TEST_UNITS.format(mean=_numbers(units.mean), scale=_numbers(scale))


def _tolerance(fitted: FittedNetwork) -> float:
    """Error to allow: sums in another order, each as long as a layer is wide."""
    least = {"float32": 1e-5, "float64": 1e-12}[fitted.dtype.name]
    return max(least, 8 * float(np.finfo(fitted.dtype).eps) * sum(fitted.layer_sizes) ** 0.5)


def _comment(fitted: FittedNetwork, title: str, facts: dict[str, Any]) -> str:
    sizes, activations = fitted.layer_sizes, [*fitted.activations, fitted.output]
    layers = zip(sizes[1:], activations, strict=True)
    shape = " -> ".join([f"{sizes[0]} features", *(f"{n} {name}" for n, name in layers)])
    classes = f"{facts['prefix']}_classes"
    meaning = {
        "regression": "predicted values",
        "multilabel": f"probabilities of the labels; a label is predicted above 0.5 ({classes})",
    }.get(fitted.kind, f"probabilities of the classes, in the order of {classes}")
    stack = sum(_buffer_sizes(sizes)) + (0 if fitted.target_units is None else sizes[-1])
    lines = [
        f"A {title} as plain C, written by fastbp {__version__}.",
        "",
        f"    {shape}    ({fitted.n_params} parameters, {facts['T']})",
        "",
        f"    {_prototype(facts)};",
        "",
        f"x    IN   {sizes[0]} features of one sample, prepared (scaled, ...) as for training",
        f"out  OUT  {facts['n_columns']} {meaning}",
    ]
    if facts["result"] == "int":
        lines.append("returns   index of the predicted class")
    lines += [
        "",
        "C99 and math.h, nothing else; link with -lm. Nothing is allocated or kept between calls,",
        f"threads may call at the same time. Buffers on the stack: {stack} numbers.",
        "",
        "Self-test: cc -std=c99 -DFASTBP_SELF_TEST FILE.c -lm && ./a.out",
    ]
    return "".join(
        [f"/* {lines[0]}\n", *(f" * {line}".rstrip() + "\n" for line in lines[1:]), " */\n\n"]
    )


def _prototype(facts: dict[str, Any]) -> str:
    return "{result} {prefix}_predict(const {T} *x, {R} *out)".format(**facts)


def _classes(fitted: FittedNetwork, name: str) -> str:
    """Return the table of class labels."""
    if fitted.classes is None:
        return ""
    labels = plain_labels(fitted.classes, RECEIVER)
    if labels.dtype.kind == "i":
        T, values = "long long", [_integer(label) for label in labels.tolist()]
    elif labels.dtype.kind == "f":
        T, values = "double", [label.hex() for label in labels.tolist()]
    else:
        T, values = "char *const", [_string(label) for label in labels.tolist()]
    return f"const {T} {name}_classes[{len(values)}] = {{{', '.join(values)}}};\n\n"


def _integer(label: int) -> str:
    """Return a C expression; the least number has no literal of its own."""
    return str(label) if label > -(2**63) else f"{label + 1} - 1"


def _string(label: str) -> str:
    """Return a C string literal, in UTF-8."""
    if "\0" in label:
        raise ValueError(f"{RECEIVER} cannot hold the label {label!r}: a character of it is 0.")
    plain = {ord(c): c for c in map(chr, range(32, 127)) if c not in '"\\?'}
    return '"' + "".join(plain.get(byte, f"\\{byte:03o}") for byte in label.encode()) + '"'


def _function(activation: str, facts: dict[str, Any]) -> str:
    formula = ACTIVATIONS[activation]
    return _with_suffixes(FUNCTION.format(formula=formula, T=facts["T"], name=activation), facts)


def _weights(fitted: FittedNetwork, layer: int, T: str) -> str:
    W, b = fitted.coefs[layer], fitted.intercepts[layer]
    n_in, n_out = W.shape
    return (
        f"/* layer {layer + 1}: weights ({n_in}, {n_out}) row by row, biases ({n_out},) */\n"
        f"static const {T} W{layer + 1}[] = {{\n{_numbers(W)}\n}};\n"
        f"static const {T} b{layer + 1}[] = {{\n{_numbers(b)}\n}};\n\n"
    )


def _numbers(values: NDArray[np.floating]) -> str:
    """Return an initialiser, exact to the bit: hexadecimal floats, four on a line."""
    suffix = "f" if values.dtype == np.float32 else ""
    written = [
        re.sub(r"\.?0*p", "p", value.hex()) + suffix
        for value in values.ravel().astype(float).tolist()
    ]
    lines = (written[i : i + 4] for i in range(0, len(written), 4))
    return ",\n".join("    " + ", ".join(line) for line in lines)


def _buffer_sizes(sizes: tuple[int, ...]) -> list[int]:
    """Return the widths of the buffers of the odd and of the even hidden layers."""
    hidden = sizes[1:-1]
    return [max(units) for units in (hidden[0::2], hidden[1::2]) if units]


def _predict(fitted: FittedNetwork, facts: dict[str, Any]) -> str:
    """Return the function: layer by layer through two buffers, then the output transform."""
    sizes = fitted.layer_sizes
    n_layers, T = len(fitted.coefs), facts["T"]
    lines = [f"{_prototype(facts)}\n{{\n"]
    buffers = ("odd", "even")  # hidden layers, counted from 1
    for buffer, size in zip(buffers, _buffer_sizes(sizes), strict=False):
        lines.append(f"    {T} {buffer}[{size}];\n")
    binary = fitted.kind == "binary"
    if binary:
        lines.append(f"    {T} score;\n")
    scaled = fitted.target_units is not None
    if scaled:
        lines.append(f"    {T} score[{sizes[-1]}];\n")
    last = "&score" if binary else "score" if scaled else "out"
    source = "x"
    for layer, n_out in enumerate(sizes[1:], start=1):
        target = buffers[(layer - 1) % 2] if layer < n_layers else last
        arguments = f"W{layer}, b{layer}, {sizes[layer - 1]}, {n_out}, {source}, {target}"
        lines.append(f"    layer({arguments});\n")
        if layer < n_layers and fitted.activations[layer - 1] != "identity":
            name = fitted.activations[layer - 1]
            lines.append(ACTIVATE.format(n_out=n_out, out=target, activation=name))
        source = target
    ending = ENDINGS["scaled" if scaled else fitted.output, fitted.kind].format(**facts)
    return "".join([*lines, _with_suffixes(ending, facts), "}\n"])


def _with_suffixes(text: str, facts: dict[str, Any]) -> str:
    """Turn math.h's functions and the constants of double precision into those of T."""
    if facts["T"] == "double":
        return text
    text = re.sub(r"\b(erfc|exp|expm1|fabs|fmax|log1p|tanh)\(", r"\1f(", text)
    return re.sub(r"\b\d+\.\d+\b", r"\g<0>f", text)
