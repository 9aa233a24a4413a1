"""Hand-over of fitted networks to other tools: scikit-learn's own MLP, C source, ONNX.

`fitted` says what a fitted estimator computes, in plain types, and refuses what the other side
lacks; `mlp`, `c_source` and `onnx` write it down.  Loaded when somebody asks (`to_sklearn`, `to_c`,
`to_onnx`, `fastbp.onnx`); nothing here trains, and no estimator is changed.
"""
