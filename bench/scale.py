"""Time against rows and against width, memory against rows: ``python -m bench.scale``.

Each point is a process of its own, so that its peak memory is its own too.  Memory is what a fit
adds to the process above data and imports, as a multiple of the size of X (a first tiny fit has
loaded everything).  Writes ``scale.png`` and ``scale.json`` into bench/results/.
"""

import argparse
import gc
import json
import os
import warnings
from pathlib import Path

from bench import measure
from bench.cell import CONTENDERS, build
from bench.workloads import Workload

RESULTS = Path(__file__).parent / "results"
NAMES = ("fastbp", "scikit-learn")
ROWS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def rows_job(n_rows):
    """Workload with ``n_rows`` samples: 50 features, one hidden layer of 100, Adam."""
    return Workload("rows", (50, 100, 10), n_rows, 200, n_epochs=max(2, 200_000 // n_rows))


def width_job(width):
    """Workload with two hidden layers of ``width`` units on 2560 rows."""
    n_epochs = max(1, min(50, 2_000_000 // width**2))
    return Workload("width", (54, width, width, 7), 2_560, 256, n_epochs=n_epochs)


JOBS = {"rows": rows_job, "width": width_job}


def resident_bytes():
    """Memory of this process now; 0 where the system doesn't say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def peak_bytes():
    """Highest memory of this process since ``reset_peak``."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")), 0)


def reset_peak():
    """Let the kernel forget the highest memory so far (Linux)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def measure_point(name, kind, size, n_threads):
    """Seconds per epoch and memory that a fit adds, as a multiple of X."""
    job = JOBS[kind](size)
    contender = build([name], job, "float32", n_threads, 1 + job.n_epochs).get(name)
    if contender is None:
        raise SystemExit(1)
    tiny = CONTENDERS[name](JOBS[kind](300) if kind == "rows" else job, "float32", 1, n_threads)
    tiny.fit(1)  # load and start everything
    del tiny
    gc.collect()
    reset_peak()
    before = resident_bytes()
    contender.fit(1)
    added = peak_bytes() - before
    seconds = min(measure.step_seconds(contender, 1) for _ in range(3)) * job.n_steps
    return {
        "contender": name,
        "kind": kind,
        "size": size,
        "seconds_per_epoch": seconds,
        "added_bytes": added,
        "added_over_X": added / contender.X.nbytes,
        "gflops": 1e-9 * job.flops_per_epoch / seconds,
    }


def measure_all(sizes, names, n_threads):
    """One child process per point; contenders alternate at each size."""
    points = []
    for kind, size, name in [(k, s, n) for k in sizes for s in sizes[k] for n in names]:
        cores, _ = measure.fastest_cores(n_threads, "float32")
        options = ["--point", name, kind, size, "--threads", n_threads]
        point = measure.run_child(cores, "bench.scale", *options)
        if point is not None:
            points.append(point)
            per_epoch, memory = point["seconds_per_epoch"], point["added_over_X"]
            print(f"{name}, {kind} {size}: {per_epoch:.3g} s/epoch, {memory:.2f} X", flush=True)
    return points


def draw(points, n_threads, path):
    """Write three panels: time against rows, time against width, memory against rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = (
        ("rows", "seconds_per_epoch", "samples", "seconds per epoch"),
        ("width", "seconds_per_epoch", "units in each of two hidden layers", "seconds per epoch"),
        ("rows", "added_over_X", "samples", "memory added by fit / size of X"),
    )
    figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for ax, (kind, key, x_label, y_label) in zip(axes, panels, strict=True):
        for name in dict.fromkeys(p["contender"] for p in points):
            line = [p for p in points if (p["contender"], p["kind"]) == (name, kind)]
            ax.plot([p["size"] for p in line], [p[key] for p in line], "o-", label=name)
        y_scale = "linear" if key == "added_over_X" else "log"
        ax.set(xscale="log", yscale=y_scale, xlabel=x_label, ylabel=y_label)
        ax.grid(alpha=0.3)
    axes[2].axhline(1.2, color="grey", linestyle="--", label="1.2 x X")
    axes[2].set_ylim(bottom=0)
    axes[0].legend()
    axes[2].legend()
    threads = "1 thread" if n_threads == 1 else f"{n_threads} threads"
    processor = measure.machine()["processor"]
    figure.suptitle(f"Epoch time and memory, float32, {threads}, {processor}", fontsize=10)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--contenders", nargs="+", default=NAMES, choices=list(CONTENDERS))
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--output", type=Path, default=None, help="file name without ending")
    parser.add_argument("--point", nargs=3, help="contender, kind, size: measure here, print JSON")
    arguments = parser.parse_args()
    if arguments.point:
        warnings.simplefilter("ignore")
        name, kind, size = arguments.point
        print(json.dumps(measure_point(name, kind, int(size), arguments.threads)))
        return
    n_sizes = 2 if arguments.quick else None
    sizes = {"rows": ROWS[:n_sizes], "width": WIDTHS[:n_sizes]}
    points = measure_all(sizes, arguments.contenders, arguments.threads)
    stem = arguments.output or RESULTS / ("scale-quick" if arguments.quick else "scale")
    stem.parent.mkdir(parents=True, exist_ok=True)
    head = {"machine": measure.machine(), "versions": measure.versions()}
    text = json.dumps(head | {"threads": arguments.threads, "points": points}, indent=1)
    stem.with_suffix(".json").write_text(text)
    draw(points, arguments.threads, stem.with_suffix(".png"))
    print(f"written: {stem}.json and .png")


if __name__ == "__main__":
    main()
