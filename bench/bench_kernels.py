"""Each kernel of the native engine against the multiply-add peak of the same moment.

``python -m bench.bench_kernels`` prints the table; ``pytest bench/bench_kernels.py`` keeps single
rows under pytest-benchmark.  Needs the engine's ``kernel_bench(name, dtype, M, N, K, repeats)``,
which returns the seconds of one call on the calling thread, in cache where the buffers fit.

Products are called with the sizes of the forward product ``(M, K) @ (K, N)``: M rows of the
minibatch, N outputs, K inputs; the gradients of that layer have the same number of operations.
Elsewhere K doesn't count: elementwise kernels work on M x N elements, updates on M x N parameters,
``gather`` copies M rows of N features.

``own silu`` is the same formula as a user would write it in Python, compiled by Numba and timed in
turns with the C loop ``silu``: alone, as predictions compute it, and in training, where a minibatch
needs the values, the slopes (derived from the function) and the product of a delta with them.
"""

import argparse
import itertools
import math
import statistics
from pathlib import Path

import pytest

from bench import measure
from bench.report import page, table
from fastbp.activations import ACTIVATIONS, Activation

PRODUCTS = ("forward", "weight_gradient", "input_gradient")
PRODUCT_SIZES = (  # the layers of the workloads, and the shapes that need their own paths
    (200, 100, 64),
    (64, 32, 32),
    (256, 256, 54),
    (256, 256, 256),
    (128, 512, 784),
    (128, 256, 512),
    (512, 1024, 1024),
    (8, 16, 20),
    (1, 16, 20),
    (32, 10, 4),
    (256, 7, 256),
    (200, 10, 100),
    (64, 1, 32),
    (512, 1, 1024),
)
ELEMENTWISE = tuple(row.kernel for row in ACTIVATIONS.values() if row.kernel)
ELEMENTWISE_SIZES = ((200, 100, 100), (256, 256, 256))
UPDATES = ("sgd", "adam")
UPDATE_SIZES = ((64, 100, 100), (256, 256, 256), (1024, 1024, 1024))
LOSS_SIZES = ((32, 3, 3), (200, 10, 10), (256, 7, 7))
GATHER_SIZES = ((200, 64, 64), (128, 784, 784))

CASES = [
    *itertools.product(PRODUCTS, PRODUCT_SIZES),
    *itertools.product(ELEMENTWISE, ELEMENTWISE_SIZES),
    *itertools.product(UPDATES, UPDATE_SIZES),
    *itertools.product(["softmax_cross_entropy"], LOSS_SIZES),
    *itertools.product(["gather"], GATHER_SIZES),
]
DTYPES = ("float32", "float64")
CALL_SECONDS = 0.02


def relu(z):
    return max(z, 0.0)


def tanh(z):
    return math.tanh(z)


def logistic(z):
    return 1.0 / (1.0 + math.exp(-z))


def silu(z):
    return z / (1.0 + math.exp(-z))


def softplus(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


OWN = {f.__name__: f for f in (relu, tanh, logistic, silu, softplus)}
OWN_CASES = list(itertools.product(OWN, ("", " training"), ELEMENTWISE_SIZES))


def kernel_bench():
    """Return the engine's entry point, or None."""
    return getattr(measure.native_engine(), "kernel_bench", None)


def is_offered(name):
    """Whether the engine knows a kernel by this name (``exp`` may be part of ``logistic``)."""
    try:
        kernel_bench()(name, "float32", 16, 16, 16, 1)
    except ValueError:
        return False
    return True


def repeats_for(name, dtype, sizes):
    """Choose the calls that fill about ``CALL_SECONDS``."""
    seconds = kernel_bench()(name, dtype, *sizes, 3)
    return max(1, min(1_000_000, round(CALL_SECONDS / max(seconds, 1e-8))))


def figures(name, dtype, sizes, seconds, peak):
    """Return GFLOP/s and share of peak of a product, else nanoseconds per element."""
    m, n, k = sizes
    if name in PRODUCTS:
        gflops = 2e-9 * m * n * k / seconds
        return {"gflops": gflops, "share_of_peak": gflops / peak}
    return {"ns_per_element": 1e9 * seconds / (m * n)}


def measure_kernel(name, dtype, sizes, n_rounds=5):
    """Seconds per call of the rounds, each with the peak probed just before."""
    repeats, rounds = repeats_for(name, dtype, sizes), []
    for _ in range(n_rounds):
        peak = measure.multiply_add_peak(dtype)
        rounds.append((kernel_bench()(name, dtype, *sizes, repeats), peak))
    best = max(peak for _, peak in rounds)
    kept = [r for r in rounds if r[1] >= measure.KEEP_ABOVE * best]
    seconds = statistics.median(s for s, _ in kept)
    peak = statistics.median(p for _, p in kept)
    return {"seconds": seconds, "n_kept": len(kept), **figures(name, dtype, sizes, seconds, peak)}


def measure_own(name, part, dtype, sizes, n_rounds=5):
    """Seconds per call of a user's function, and over the C loop's: median ratio of the rounds."""
    from fastbp.engine.numba.kernels import activation_kernel

    loops = activation_kernel(Activation(OWN[name]), dtype).addresses
    repeats, rounds = repeats_for(name, dtype, sizes), []
    for _ in range(n_rounds):
        built_in = kernel_bench()(name + part, dtype, *sizes, repeats)
        rounds.append((kernel_bench()(name + part, dtype, *sizes, repeats, loops), built_in))
    seconds = statistics.median(own for own, _ in rounds)
    ratio = statistics.median(own / built_in for own, built_in in rounds)
    return {"seconds": seconds, "ratio": ratio, **figures(name, dtype, sizes, seconds, 1.0)}


@pytest.mark.skipif(kernel_bench() is None, reason="the engine has no kernel_bench here")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "sizes"), CASES)
def bench_kernel(benchmark, name, sizes, dtype):
    """One kernel; the figures that matter are in extra_info, not the wall time of the loop."""
    if not is_offered(name):
        pytest.skip(f"the engine offers no kernel {name!r}")
    repeats, seconds = repeats_for(name, dtype, sizes), []
    peak = measure.multiply_add_peak(dtype)
    benchmark.group = f"{name}, {dtype}"

    def run():
        seconds.append(kernel_bench()(name, dtype, *sizes, repeats))

    benchmark.pedantic(run, rounds=5, iterations=1, warmup_rounds=1)
    found = figures(name, dtype, sizes, min(seconds), peak)
    benchmark.extra_info |= {"seconds_per_call": min(seconds), **found}


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.bench_kernels")
    parser.add_argument("--kernels", nargs="+", default=None)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="markdown file to write the table to")
    arguments = parser.parse_args()
    if kernel_bench() is None:
        raise SystemExit("skipped: the native engine is not built or has no kernel_bench")
    cores, _ = measure.fastest_cores(1, "float32")
    measure.pin(cores)
    print(measure.machine())
    own = arguments.kernels is None or "own" in arguments.kernels
    rows, names = [], arguments.kernels or list(dict.fromkeys(name for name, _ in CASES))
    for name in [name for name in names if not is_offered(name)]:
        if name != "own":
            print(f"skipped {name}: the engine offers no kernel of this name")
        names.remove(name)
    for dtype, (name, sizes) in itertools.product(arguments.dtypes, CASES):
        if name not in names:
            continue
        found = measure_kernel(name, dtype, sizes, arguments.rounds)
        speed = f"{found['gflops']:.1f} GFLOP/s" if "gflops" in found else "-"
        share = f"{100 * found['share_of_peak']:.0f} %" if "gflops" in found else "-"
        element = "-" if "gflops" in found else f"{found['ns_per_element']:.3f} ns"
        micro = f"{1e6 * found['seconds']:.3g}"
        rows.append([name, dtype, " x ".join(map(str, sizes)), micro, speed, share, element])
        print(*rows[-1], sep="  ", flush=True)
    for dtype, (name, part, sizes) in itertools.product(arguments.dtypes, OWN_CASES if own else ()):
        found = measure_own(name, part, dtype, sizes, arguments.rounds)
        element, ratio = f"{found['ns_per_element']:.3f} ns", f"{found['ratio']:.2f} x built-in"
        micro, size = f"{1e6 * found['seconds']:.3g}", " x ".join(map(str, sizes))
        rows.append([f"own {name}{part}", dtype, size, micro, "-", ratio, element])
        print(*rows[-1], sep="  ", flush=True)
    header = ["kernel", "dtype", "M x N x K", "us", "speed", "of peak", "per element"]
    text = table(header, rows)
    print("\n" + text)
    if arguments.output:
        arguments.output.write_text(page("# Kernels of the native engine, one thread", text))


if __name__ == "__main__":
    main()
