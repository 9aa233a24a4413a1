"""Contenders whose matrix products have operands rounded to bfloat16, if the processor has a way.

Beside the same contender with float32 products, in the same rounds: fastbp's `matmul_precision`,
PyTorch's `torch.set_float32_matmul_precision` of the same meaning, and PyTorch's autocast, which
also keeps activations in bfloat16.  `bench` takes them when they are named; the rules of
``contenders.py`` hold here too.
"""

from bench.contenders import FastBP, TorchEager
from bench.contenders_compiled import TorchInPlace


class FastBPHigh(FastBP):
    """fastbp, each operand the sum of two bfloat16."""

    name = "fastbp, high"
    matmul_precision = "high"

    def estimator(self, n_epochs):
        return super().estimator(n_epochs).set_params(matmul_precision=self.matmul_precision)


class FastBPMedium(FastBPHigh):
    """fastbp, each operand rounded to bfloat16."""

    name = "fastbp, medium"
    matmul_precision = "medium"


class InMedium:
    """A fit with PyTorch's precision of products, which is the process's, set and put back."""

    def fit(self, n_epochs):
        before = self.torch.get_float32_matmul_precision()
        self.torch.set_float32_matmul_precision("medium")
        try:
            super().fit(n_epochs)
        finally:
            self.torch.set_float32_matmul_precision(before)


class TorchEagerMedium(InMedium, TorchEager):
    """The usual loop in "medium"."""

    name = "torch eager, medium"


class TorchInPlaceMedium(InMedium, TorchInPlace):
    """The loop by hand in "medium"."""

    name = "torch in place, medium"


class TorchAutocast(TorchEager):
    """The usual loop with the forward pass under autocast, as PyTorch's documentation has it."""

    name = "torch eager, autocast"

    def network(self):
        model = super().network()
        forward = model.forward

        def rounded(X):
            with self.torch.autocast("cpu", dtype=self.torch.bfloat16):
                return forward(X).float()

        model.forward = rounded
        return model
