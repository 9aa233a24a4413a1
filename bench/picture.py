"""Results -> picture: how much faster fastbp is than each peer, row by row, lost rows included.

``python -m bench.picture bench/results/steps.json`` writes ``steps.svg`` beside the file.  One
thread, float32; each ratio is the median over rounds, as in the table.  No measuring here.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from bench.for_readers import MEANING
from bench.measure import ratio
from bench.workloads import WORKLOADS

PEERS = {
    "scikit-learn": ("scikit-learn", "tab:orange"),
    "torch in place": ("PyTorch, in place", "tab:red"),
    "jax epoch": ("JAX, epoch compiled", "tab:blue"),
}


def describe(name):
    """Return layers, batch and optimiser of a workload in two lines."""
    workload = WORKLOADS[name]
    solver = "Nesterov" if workload.momentum else {"adam": "Adam", "sgd": "SGD"}[workload.solver]
    return "-".join(map(str, workload.layers)) + f"\nbatch {workload.batch_size}, {solver}"


def draw(results):
    """Draw the ratios of all rows of one thread in float32.

    Parameters
    ----------
    results : dict
        As `python -m bench` writes it.

    Returns
    -------
    matplotlib Figure
    """
    cells = [
        cell
        for cell in results["cells"]
        if (cell["threads"], cell["dtype"], cell["activation"]) == (1, "float32", "relu")
        and "fastbp" in cell["seconds"]
    ]
    order = list(MEANING)  # as in the tables that people read
    cells.sort(key=lambda cell: order.index(cell["workload"]) if cell["workload"] in order else 99)
    fig, ax = plt.subplots(figsize=(8, 0.72 * len(cells) + 1.4), layout="constrained")
    height = 0.8 / len(PEERS)
    for i, (peer, (label, color)) in enumerate(PEERS.items()):
        rows = [r for r, cell in enumerate(cells) if peer in cell["seconds"]]
        times = [ratio(cells[r]["seconds"], peer, "fastbp") for r in rows]
        places = [r + (i - (len(PEERS) - 1) / 2) * height for r in rows]
        ax.barh(places, [t - 1 for t in times], height, left=1, color=color, label=label)
        for place, t in zip(places, times, strict=True):
            ax.text(max(t, 1) * 1.06, place, f"{t:.3g}x", va="center", fontsize=8)
    ax.axvline(1, color="k", linewidth=1)
    ax.set(
        xscale="log",
        yticks=range(len(cells)),
        yticklabels=[describe(cell["workload"]) for cell in cells],
        xlabel="time of one training step, fastbp = 1 (below 1: fastbp is slower), log scale",
        ylabel="layer sizes, batch size, optimizer",
        title=f"{results['machine']['processor']}, one thread, float32",
    )
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 0.7), high * 1.6)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower right")
    return fig


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="JSON file of `python -m bench`")
    path = parser.parse_args().results
    # The same results give the same file; text stays text, which keeps it small.
    plt.rcParams |= {"svg.hashsalt": "fastbp", "svg.fonttype": "none"}
    figure = draw(json.loads(path.read_text()))
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    print(f"written: {path.with_suffix('.svg')}")


if __name__ == "__main__":
    main()
