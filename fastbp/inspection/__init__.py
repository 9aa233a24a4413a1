"""Look inside backpropagation: activations, deltas and gradients of a batch, checks, a diagnosis.

This file lists the public names and nothing else.  Everything takes a fitted estimator of fastbp,
or a pipeline or a search that ends in one, changes nothing in it, and computes in float64 with
plain NumPy, apart from the engines.
"""

from fastbp.inspection.backpropagation import Backpropagation, input_gradients, loss_and_gradients
from fastbp.inspection.diagnosis import Diagnosis, diagnose
from fastbp.inspection.gradient_check import GradientCheck, check_gradients
from fastbp.inspection.symptoms import Finding

__all__ = [
    "Backpropagation",
    "Diagnosis",
    "Finding",
    "GradientCheck",
    "check_gradients",
    "diagnose",
    "input_gradients",
    "loss_and_gradients",
]
