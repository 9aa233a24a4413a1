"""How precise the matrix products of float32 networks are: the names, and what a call asks for.

The names and their meaning are PyTorch's (``torch.set_float32_matmul_precision``).  Which products
an engine then makes, and how, is its own business; here is what both engines and all who call them
agree on.  Nothing is computed here.

=========  ============================================================================
highest    operands are float32, with 24 significant bits
high       each operand is the sum of two bfloat16, hi + lo, with 16 bits together; of the
           four products lo times lo is left out (Henry, Tang & Heinecke 2019)
medium     each operand is rounded to one bfloat16, with 8 bits
=========  ============================================================================

Products are summed in float32 in each of them.  A network, or a layer, for which the processor
has no fast way takes the next more precise one, so that no choice makes it slower.
"""

import numpy as np

PRECISIONS = ("highest", "high", "medium")  # each less precise, and faster, than the one before
PATHS = ("amx", "avx512_bf16", "emulation", "none")
# Predictions of fewer rows are float32's: rounding the weights would cost more than it saves.
PREDICTION_ROWS = 64

# What they are called elsewhere: dtypes, torch's fp32_precision, JAX's default_matmul_precision and
# DotAlgorithmPreset, Lightning's precision, mixed precision of other libraries.
OTHER_WORDS = {
    **dict.fromkeys(
        ("float32", "fp32", "f32", "single", "32", "32-true", "full", "ieee", "exact", "default",
         "float64", "double", "best", "max", "false"), "highest",
    ),
    **dict.fromkeys(
        ("bf16x3", "bfloat16_3x", "BF16_BF16_F32_X3", "tf32", "tensorfloat32", "middle"), "high"
    ),
    **dict.fromkeys(
        ("bf16", "bfloat16", "BF16_BF16_F32", "float16", "fp16", "half", "16", "16-mixed",
         "bf16-mixed", "bf16-true", "mixed", "amp", "autocast", "low", "lowest", "fast", "fastest",
         "true"), "medium",
    ),
}  # fmt: skip


def for_dtype(precision, dtype):
    """Return what arithmetic of a dtype asks for: float64 is always "highest".

    So is 'lbfgs', whose arithmetic is float64.
    """
    return precision if dtype == np.float32 else PRECISIONS[0]


def check_matmul_precision(precision):
    """Refuse what is no name of a precision."""
    if not (isinstance(precision, str) and precision in PRECISIONS):
        raise ValueError(f"matmul_precision must be one of {PRECISIONS}, got {precision!r}")


def for_rows(precision, n_rows):
    """Return what the prediction of so many rows, in one call, asks for; refuse what is no name."""
    if precision is PRECISIONS[0]:  # one row takes as long as a few such calls
        return precision
    check_matmul_precision(precision)
    return precision if n_rows >= PREDICTION_ROWS else PRECISIONS[0]


def least_precise(found):
    """Return the least precise of several."""
    return max(found, key=PRECISIONS.index)
