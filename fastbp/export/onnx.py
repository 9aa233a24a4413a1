"""ONNX: converters of both estimators for skl2onnx, alone or inside pipelines.

After `register`, ``skl2onnx.to_onnx`` takes them like scikit-learn's own.  The graph holds one Gemm
for each layer and elementary operators for its activation.  An activation is one line of a table;
what has no line is refused.  Loaded on request, by way of `fastbp.onnx` (extra ``onnx``).
"""

import os
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_is_fitted

from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.estimators.attributes import check_attributes
from fastbp.export.fitted import FittedNetwork, TargetUnits, describe_fitted, plain_labels
from fastbp.tables import Text, say_bytes

RECEIVER = "ONNX"
OUTPUTS = ("exp", "identity", "logistic", "softmax")


def softplus(g: "Operators", z: Any) -> Any:
    """log(1 + exp(z)), so written that exp never overflows."""
    return g.Add(g.Max(z, 0.0), g.Log(g.Add(g.Exp(g.Neg(g.Abs(z))), 1.0)))


def elu(g: "Operators", z: Any) -> Any:
    """Where z > 0 z, else exp(z) - 1."""
    return g.Add(g.Max(z, 0.0), g.Sub(g.Exp(g.Min(z, 0.0)), 1.0))


# f(z) by operators that onnxruntime has for float and double.
ACTIVATIONS = {
    "identity": lambda g, z: z,
    "logistic": lambda g, z: g.Sigmoid(z),
    "tanh": lambda g, z: g.Tanh(z),
    "relu": lambda g, z: g.Relu(z),
    "leaky_relu": lambda g, z: g.Max(z, g.Mul(z, 0.01)),
    "elu": elu,
    "selu": lambda g, z: g.Mul(
        g.Add(g.Max(z, 0.0), g.Mul(g.Sub(g.Exp(g.Min(z, 0.0)), 1.0), 1.6732632423543772)),
        1.0507009873554805,
    ),
    "gelu": lambda g, z: g.Mul(g.Mul(z, 0.5), g.Add(g.erf(g.Mul(z, 0.5**0.5)), 1.0)),
    "silu": lambda g, z: g.Mul(z, g.Sigmoid(z)),
    "mish": lambda g, z: g.Mul(z, g.Tanh(softplus(g, z))),
    "softplus": softplus,
}


def register() -> None:
    """Teach skl2onnx to convert BackpropClassifier and BackpropRegressor.

    Registers converters, output shapes and the options of scikit-learn's classifiers (``zipmap``,
    ``nocl``, ``output_class_labels``); pipelines and unions in which an estimator gives features to
    another step get those of its `transform`.  It may be called again.  A conversion raises
    ValueError for activations that are functions of yours, and for class labels other than integers
    of int64 and text (``nocl`` predicts their indices instead).  Graphs compute in float32 for
    float32 input and in float64 for float64 (the error function of gelu always in float32).  What
    `scale_targets` took out of y comes back in float64; predictions stay float64 where float32 is
    too coarse or too narrow for such a y, as those of `predict`.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import fastbp.onnx
    >>> from fastbp import BackpropClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), BackpropClassifier(tol=0.01, random_state=0))
    >>> model = model.fit(X.astype(np.float32), y)
    >>> fastbp.onnx.register()
    >>> from skl2onnx import to_onnx
    >>> graph = to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False})
    >>> [output.name for output in graph.graph.output]
    ['label', 'probabilities']
    """
    try:
        from skl2onnx import update_registered_converter
        from skl2onnx._parse import sklearn_parsers_map, update_registered_parser
    except ImportError as error:
        raise ImportError(
            "fastbp.onnx needs skl2onnx, which cannot be imported. Install it, for example by "
            "pip install 'fastbp[onnx]'."
        ) from error
    options = {
        "zipmap": [True, False, "columns"],
        "output_class_labels": [False, True],
        "nocl": [True, False],
    }
    for kind in CONTAINERS:
        parser = sklearn_parsers_map[kind]
        if getattr(parser, "func", None) is not _parse_container:  # registered before
            update_registered_parser(kind, partial(_parse_container, parser))
    update_registered_converter(
        HiddenLayer, "FastbpHiddenLayer", set_feature_types, convert_features
    )
    for kind in (BackpropClassifier, BackpropRegressor):
        update_registered_converter(
            kind,
            f"Fastbp{kind.__name__}",
            set_output_types,
            convert,
            parser=parse if kind is BackpropClassifier else None,
            options=options if kind is BackpropClassifier else None,
        )


def write_onnx(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    dtype: str | None,
    options: dict[str, Any] | None,
    target_opset: int | None,
) -> Text:
    """Write a fitted estimator as an ONNX file; see its method `to_onnx`."""
    fitted = describe_fitted(estimator, RECEIVER, ACTIVATIONS, OUTPUTS)
    dtype = fitted.dtype.name if dtype is None else dtype
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32', 'float64' or None. Got {dtype!r}.")
    register()
    from skl2onnx import to_onnx

    if isinstance(estimator, BackpropClassifier):
        options = {"zipmap": False} if options is None else options
    sample = np.zeros((1, fitted.layer_sizes[0]), dtype)
    graph = to_onnx(estimator, sample, options=options, target_opset=target_opset)
    size = Path(path).write_bytes(graph.SerializeToString())
    inputs, outputs = (
        ", ".join(value.name for value in values)
        for values in (graph.graph.input, graph.graph.output)
    )
    return Text(f"{os.fspath(path)}: {say_bytes(size)} of ONNX, {inputs} -> {outputs}")


class Operators:
    """ONNX operators of one opset, as functions of nodes, variables and numbers of one dtype."""

    def __init__(self, opset: int, dtype: type[np.floating]) -> None:
        self.opset = opset
        self.dtype = dtype

    def __getattr__(self, name: str) -> Any:
        from skl2onnx.algebra import onnx_ops

        operator = getattr(onnx_ops, f"Onnx{name}")

        def make(*inputs: Any, **attributes: Any) -> Any:
            inputs = tuple(
                np.array([value], self.dtype) if isinstance(value, float) else value
                for value in inputs
            )
            return operator(*inputs, op_version=self.opset, **attributes)

        return make

    def erf(self, z: Any) -> Any:
        """Error function, always in float32: onnxruntime has no other."""
        if self.dtype is np.float32:
            return self.Erf(z)
        from skl2onnx.proto import TensorProto

        return self.Cast(self.Erf(self.Cast(z, to=TensorProto.FLOAT)), to=TensorProto.DOUBLE)


def set_output_types(operator: Any) -> None:
    """Tell skl2onnx the types and shapes of an estimator's outputs."""
    from skl2onnx.common.data_types import (
        DoubleTensorType,
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )

    estimator = operator.raw_operator
    n_samples = operator.inputs[0].get_first_dimension()
    is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
    Real = DoubleTensorType if is_double else FloatTensorType
    if isinstance(estimator, BackpropRegressor):
        units = describe_fitted(estimator, RECEIVER, ACTIVATIONS, OUTPUTS).target_units
        if units is not None and units.need_double and not is_double:
            _refuse_within(operator, units)
            Real = DoubleTensorType
        operator.outputs[0].type = Real([n_samples, estimator.n_outputs_])
        return
    classes = _labels_of(operator.scope_inst, operator.raw_operator)
    Label = Int64TensorType if classes.dtype == np.int64 else StringTensorType
    multilabel = estimator._target_kind == "multilabel"
    operator.outputs[0].type = Label([n_samples, len(classes)] if multilabel else [n_samples])
    operator.outputs[1].type = Real([n_samples, len(classes)])


def _refuse_within(operator: Any, units: TargetUnits) -> None:
    """Raise if results in float64 go to another model, which takes those of its float32 input."""
    if not operator.outputs[0].is_leaf:
        raise ValueError(
            f"{RECEIVER} cannot hold this {type(operator.raw_operator).__name__} within another "
            "model in float32, which is too coarse or too narrow for a y of mean "
            f"{units.mean} and standard deviation {units.scale}. Convert with X of float64, such "
            "as to_onnx(model, X[:1].astype('float64'))."
        )


def parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Parse a classifier as skl2onnx does its own, with labels that ONNX can hold."""
    from skl2onnx._parse import _parse_sklearn_classifier  # what it takes by itself, too

    check_is_fitted(model)
    check_attributes(vars(model), goes_on=False)
    _labels_of(scope, model)
    return _parse_sklearn_classifier(scope, model, inputs, custom_parsers=custom_parsers)


def _labels_of(scope: Any, estimator: Any) -> NDArray[Any]:
    """Labels to predict, which the option ``nocl`` turns into indices: of int64 or of text."""
    from skl2onnx.common.utils_classifier import get_label_classes

    labels = plain_labels(np.asarray(get_label_classes(scope, estimator)), RECEIVER)
    if labels.dtype.kind not in "if":
        return labels.astype(str)
    if labels.dtype.kind == "f" and (np.abs(labels).max() >= 2.0**63 or (labels % 1).any()):
        raise ValueError(
            f"{RECEIVER} cannot hold class labels such as {labels[-1]}: expected integers below "
            "2**63 or text."
        )
    listed = scope.get_options(estimator, {"output_class_labels": False})["output_class_labels"]
    if listed and estimator.classes_.dtype not in (np.int32, np.int64, np.bool_):
        raise ValueError(
            "skl2onnx's option output_class_labels takes labels of int32, int64 or text. Got "
            f"{estimator.classes_.dtype}; fit on y.astype('int64')."
        )
    return labels.astype(np.int64)


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Write the operators of a fitted estimator into skl2onnx's container."""
    from skl2onnx.proto import TensorProto

    fitted = describe_fitted(operator.raw_operator, RECEIVER, ACTIVATIONS, OUTPUTS)
    g, a = _last_hidden(fitted, operator, container)
    a = g.Gemm(a, fitted.coefs[-1].astype(g.dtype), fitted.intercepts[-1].astype(g.dtype))
    values = {
        "identity": lambda: [_in_units_of_y(g, a, fitted)],
        "exp": lambda: [g.Exp(a)],
        "softmax": lambda: [g.Softmax(a, axis=1)],
        "logistic": lambda: [g.Sigmoid(a)],
    }[fitted.output]()
    if fitted.kind == "binary":
        values = [g.Sigmoid(g.Neg(a)), *values]
    last = operator.outputs[-1:]
    g.Concat(*values, axis=1, output_names=last).add_to(scope, container)
    if fitted.kind == "regression":
        return
    labels = operator.outputs[:1]
    if fitted.kind == "multilabel":
        g.Cast(g.Greater(a, 0.0), to=TensorProto.INT64, output_names=labels).add_to(
            scope, container
        )
        return
    if fitted.kind == "binary":
        index = g.Reshape(g.Cast(g.Greater(a, 0.0), to=TensorProto.INT64), np.array([-1]))
    else:
        index = g.ArgMax(a, axis=1, keepdims=0)
    classes = _labels_of(operator.scope_inst, operator.raw_operator)
    g.Gather(classes, index, output_names=labels).add_to(scope, container)


def _in_units_of_y(g: Operators, a: Any, fitted: FittedNetwork) -> Any:
    """Take `scale_targets` back, in float64."""
    from skl2onnx.proto import TensorProto

    units = fitted.target_units
    if units is None:
        return a
    factor, shift, unit = units.factors
    a = a if g.dtype is np.float64 else g.Cast(a, to=TensorProto.DOUBLE)
    a = g.Mul(g.Add(g.Mul(a, factor), shift), unit)
    narrow = g.dtype is np.float32 and not units.need_double
    return g.Cast(a, to=TensorProto.FLOAT) if narrow else a


def _last_hidden(fitted: FittedNetwork, operator: Any, container: Any) -> tuple[Operators, Any]:
    """Return the operators for an estimator's input, and the nodes up to its last hidden layer."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.proto import TensorProto

    (X,) = operator.inputs
    dtype = np.float64 if isinstance(X.type, DoubleTensorType) else np.float32
    g, a = Operators(container.target_opset, dtype), X
    if not isinstance(X.type, DoubleTensorType | FloatTensorType):
        a = g.Cast(X, to=TensorProto.FLOAT)
    for layer, name in enumerate(fitted.activations):
        weights, biases = fitted.coefs[layer], fitted.intercepts[layer]
        a = ACTIVATIONS[name](g, g.Gemm(a, weights.astype(dtype), biases.astype(dtype)))
    return g, a


# --------------------------------------------------------------------- before another step


class HiddenLayer(TransformerMixin, BaseEstimator):
    """Stands for an estimator that gives features to another step, by its `transform`.

    skl2onnx would give that step the predictions.
    """

    def __init__(self, network: Any) -> None:
        self.network = network


def set_feature_types(operator: Any) -> None:
    """Tell skl2onnx the type and shape of the activations."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    X, network = operator.inputs[0], operator.raw_operator.network
    Real = DoubleTensorType if isinstance(X.type, DoubleTensorType) else FloatTensorType
    operator.outputs[0].type = Real([X.get_first_dimension(), network._n_features_out])


def convert_features(scope: Any, operator: Any, container: Any) -> None:
    """Write the operators up to the last hidden layer."""
    network = operator.raw_operator.network
    fitted = describe_fitted(network, RECEIVER, ACTIVATIONS, OUTPUTS)
    g, a = _last_hidden(fitted, operator, container)
    g.Identity(a, output_names=operator.outputs[:1]).add_to(scope, container)


# Where estimators give features to others: the attribute that lists them, and which do.
CONTAINERS = {
    Pipeline: ("steps", slice(0, -1)),
    FeatureUnion: ("transformer_list", slice(None)),
    ColumnTransformer: ("transformers_", slice(None)),
}


def _parse_container(
    default: Any, scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> Any:
    """Parse a pipeline or union as `default` does, with `HiddenLayer` where one gives features."""
    attribute, which = CONTAINERS[next(kind for kind in CONTAINERS if isinstance(model, kind))]
    before = list(getattr(model, attribute))
    after = list(before)
    after[which] = [(name, _as_features(step), *rest) for name, step, *rest in before[which]]
    if all(new[1] is old[1] for new, old in zip(after, before, strict=True)):
        return default(scope, model, inputs, custom_parsers=custom_parsers)
    twin = copy(model)
    setattr(twin, attribute, after)
    options = scope.options or {}  # of models by their id
    scope.add_options(id(twin), options.get(id(model)))
    try:
        return default(scope, twin, inputs, custom_parsers=custom_parsers)
    finally:
        options.pop(id(twin), None)


def _as_features(step: Any) -> Any:
    """Return what gives the features of a step: of a pipeline, those of its last step."""
    if isinstance(step, BackpropClassifier | BackpropRegressor):
        return HiddenLayer(step)
    if isinstance(step, Pipeline):
        name, last = step.steps[-1]
        features = _as_features(last)
        if features is not last:
            step = copy(step)
            step.steps = [*step.steps[:-1], (name, features)]
    return step
