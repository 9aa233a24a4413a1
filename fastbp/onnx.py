"""ONNX: converters of both estimators for skl2onnx, alone or inside pipelines.

After `register`, ``skl2onnx.to_onnx`` takes them like scikit-learn's own.  The graph holds one Gemm
for each layer and elementary operators for its activation.  An activation is one line of a table;
what has no line is refused.  Loaded on request (extra ``onnx``); nobody imports this file.
"""

from typing import Any

import numpy as np

from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.export.fitted import describe_fitted

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
    ``nocl``, ``output_class_labels``) by skl2onnx's public `update_registered_converter`; it may be
    called again.  A conversion raises ValueError for activations that are functions of yours.
    Graphs compute in float32 for float32 input and in float64 for float64 (the error function of
    gelu always in float32).

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
    for kind in (BackpropClassifier, BackpropRegressor):
        update_registered_converter(
            kind,
            f"Fastbp{kind.__name__}",
            set_output_types,
            convert,
            options=options if kind is BackpropClassifier else None,
        )


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
    from skl2onnx.common.utils_classifier import get_label_classes

    estimator = operator.raw_operator
    n_samples = operator.inputs[0].get_first_dimension()
    is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
    Real = DoubleTensorType if is_double else FloatTensorType
    if isinstance(estimator, BackpropRegressor):
        operator.outputs[0].type = Real([n_samples, estimator.n_outputs_])
        return
    classes = np.asarray(get_label_classes(operator.scope_inst, estimator))
    Label = StringTensorType if classes.dtype.kind in "OU" else Int64TensorType
    multilabel = estimator._target_kind == "multilabel"
    operator.outputs[0].type = Label([n_samples, len(classes)] if multilabel else [n_samples])
    operator.outputs[1].type = Real([n_samples, len(classes)])


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Write the operators of a fitted estimator into skl2onnx's container."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.common.utils_classifier import get_label_classes
    from skl2onnx.proto import TensorProto

    fitted = describe_fitted(operator.raw_operator, RECEIVER, ACTIVATIONS, OUTPUTS)
    (X,) = operator.inputs
    dtype = np.float64 if isinstance(X.type, DoubleTensorType) else np.float32
    g = Operators(container.target_opset, dtype)
    a = X
    if not isinstance(X.type, DoubleTensorType | FloatTensorType):
        a = g.Cast(X, to=TensorProto.FLOAT)
    layers = zip(fitted.coefs, fitted.intercepts, [*fitted.activations, "identity"], strict=True)
    for weights, biases, name in layers:
        z = g.Gemm(a, weights.astype(dtype), biases.astype(dtype))
        a = ACTIVATIONS[name](g, z)
    values = {
        "identity": lambda: [a],
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
    classes = np.asarray(get_label_classes(operator.scope_inst, operator.raw_operator))
    classes = classes.astype(str if classes.dtype.kind in "OU" else np.int64)
    g.Gather(classes, index, output_names=labels).add_to(scope, container)
