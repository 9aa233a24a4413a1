"""``scale_out.json`` -> a page of results, the same page in the documentation, and pictures.

`write` writes ``scale_out.md`` and ``scale_out.svg`` beside the file; ``docs/conf.py`` calls
`write_page`.  Sections that are not there, or were measured beside other programs, are named as
such.  No measuring here.
"""

import json
from pathlib import Path

from bench.for_readers import RESULTS, table
from bench.scale_out_model import LINES, ROWS, WEIGHTS, WORKERS, Parts

QUIET = 0.25  # load of each core beside which figures are figures
NEEDED = {
    "parts": "what a round is made of",
    "real": "real runs",
    "loss": "what shards cost in accuracy",
    "ways": "other ways to average",
}
NAMES = {"fashion_mnist": "Fashion-MNIST", "adult": "adult"}


def read_parts(results):
    """Return the parts of the model."""
    found = results["parts"]["found"]
    return Parts(**found | {"row": {int(k): v for k, v in found["row"].items()}})


def disclaimer(results):
    """Name what is missing or was measured on a busy machine; empty where nothing is."""
    lines = []
    for name, what in NEEDED.items():
        section = results.get(name)
        if section is None:
            lines.append(f"- Not measured yet: {what}.")
        elif name in ("parts", "real") and (section["load"] or 0.0) > QUIET * section["cores"]:
            lines.append(
                f"- **Placeholders**: {what}, measured beside other programs (load "
                f"{section['load']:.1f} on {section['cores']} cores)."
            )
    return "\n".join(lines)


def say_parts(parts):
    """One row for each part."""
    rows = [
        [f"training a row, {n:,} weights", f"{1e6 * s:.3g} us"]
        for n, s in sorted(parts.row.items())
    ]
    rows += [
        ["a task, there and back", f"{1e3 * parts.trip:.2g} ms"],
        ["each further task", f"{1e3 * parts.task:.2g} ms"],
        ["a megabyte of an average, handled", f"{1e9 * parts.handling:.2g} ms"],
    ]
    return table(["part", "takes"], rows)


def say_speed_ups(parts):
    """Return a table for each line."""
    found = []
    for gbit in LINES:
        rows = [
            [f"{p:,}", *(f"{parts.speed_up(k, p, gbit):.1f}" for k in WORKERS)] for p in WEIGHTS
        ]
        header = ["weights", *(f"{k}" for k in WORKERS)]
        found.append(f"**{gbit:g} Gbit/s**\n\n{table(header, rows)}")
    return "\n\n".join(found)


def say_real(section):
    """Return real runs beside the prediction, and CPU seconds beside those of the local fit."""
    runs = section["found"]
    alone = runs[0]["seconds"]
    rows = []
    for run in runs:
        seconds, predicted = run["seconds"], run["predicted"]
        times = [f"{seconds:.3f}", f"{predicted:.3f}", f"{seconds / predicted - 1:+.0%}"]
        cpu = [f"{run[name]:.3f}" for name in ("cpu_of_workers", "cpu_of_client")]
        rows.append([run["processes"], *times, f"{alone / seconds:.2f}", *cpu])
    header = [
        "processes", "measured", "predicted", "disagreement", "times one process",
        "CPU s of workers", "CPU s of client and scheduler",
    ]  # fmt: skip
    first = runs[0]
    return (
        f"{first['rows']:,} rows, {first['weights']:,} weights, seconds an epoch; the machine has "
        f"{section['cores']} cores, which four processes share. A local epoch takes "
        f"{first['cpu_of_local_fit']:.3f} CPU seconds.\n\n" + table(header, rows)
    )


def say_losses(section):
    """Return held-out loss and accuracy for each set."""
    parts = []
    for name, title in NAMES.items():
        runs = [run for run in section["found"] if run["set"] == name]
        rows = []
        for run in runs:
            accuracy = f"{run['accuracy_difference']:+.4f} ± {run['accuracy_error']:.4f}"
            losses = [f"{run['loss']:.4f}", f"{run['loss_ratio']:+.1%}"]
            rows.append([run["shards"], run["way"], *losses, f"{run['accuracy']:.4f}", accuracy])
        first = runs[0]
        parts.append(
            f"**{title}**, {first['rows']:,} rows, {first['epochs']} epochs, mean of "
            f"{first['seeds']} seeds\n\n"
            + table(["shards", "way", "log loss", "beside local", "accuracy", "difference"], rows)
        )
    return "\n\n".join(parts)


def compose(results, picture):
    """Return the page."""
    parts, machine = read_parts(results), results["machine"]
    sections = [
        f"""# More workers: predicted and measured

What more workers bring to one model over a Dask cluster ([how it is trained](guide/cluster.rst)):
the speed-up over one worker for {ROWS:,} rows of 54 columns and one average an epoch, predicted
from the parts of a round that were measured on one machine ({machine["processor"]},
{machine["cores"]} cores), beside real runs there; and the accuracy that shards cost.""",
        disclaimer(results),
        f"![Predicted speed-up by workers, weights and line]({picture})",
        "## What a round is made of\n\n" + say_parts(parts),
        "## Predicted speed-up\n\nOver one worker, by the number of workers.\n\n"
        + say_speed_ups(parts)
        + "\n\nBeyond a million weights training is not measured: a row takes longer in "
        "proportion. The model knows nothing of lines that are shared, of workers of different "
        "speed, nor of memory.",
    ]
    if "real" in results:
        sections.append("## Real runs on one machine\n\n" + say_real(results["real"]))
    if "loss" in results:
        sections.append(
            "## Accuracy after the same number of epochs\n\nOne hidden layer of 100 units, Adam; "
            "held-out rows. Shards have the same bits whoever trains them, so these are those of a "
            "cluster with as many workers. The uncertainty is one standard error.\n\n"
            + say_losses(results["loss"])
        )
    if "ways" in results:
        sections.append("## Other ways to average\n\n" + say_losses(results["ways"]))
    return "\n\n".join(part for part in sections if part) + "\n"


def draw(results):
    """Draw predicted speed-ups, one panel for each line; real runs where there are some.

    Returns
    -------
    matplotlib Figure
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    parts = read_parts(results)
    fig, axes = plt.subplots(1, len(LINES), figsize=(10, 3.6), sharey=True, layout="constrained")
    for ax, gbit in zip(axes, LINES, strict=True):
        for n_weights in WEIGHTS:
            found = [parts.speed_up(k, n_weights, gbit) for k in WORKERS]
            ax.plot(WORKERS, found, label=f"{n_weights:,}")
        ax.plot(WORKERS, WORKERS, color="0.7", linestyle=":", linewidth=1)
        if "real" in results:
            runs = results["real"]["found"]
            ax.plot(
                [run["processes"] for run in runs],
                [runs[0]["seconds"] / run["seconds"] for run in runs],
                "k+", label="measured here" if ax is axes[0] else None,
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="workers", title=f"{gbit:g} Gbit/s")
        ax.set_xticks([2, 8, 32, 128, 1024], ["2", "8", "32", "128", "1024"])
        ax.set_ylim(0.5, 1100)
    axes[0].set_ylabel("times one worker")
    axes[0].legend(title="weights", fontsize=7, title_fontsize=7)
    return fig


def write(results, path):
    """Write page and picture of results beside their file."""
    import matplotlib

    path = Path(path)
    with matplotlib.rc_context({"svg.hashsalt": "fastbp"}):
        draw(results).savefig(path.with_suffix(".svg"), metadata={"Date": None})
    text = compose(results, path.with_suffix(".svg").name)
    path.with_suffix(".md").write_text(text.replace("(guide/", "(../../docs/guide/"), "utf-8")


def write_page(path):
    """Write the page of ``bench/results/scale_out.json`` into the documentation."""
    results = json.loads((RESULTS / "scale_out.json").read_text("utf-8"))
    text, path = compose(results, "../bench/results/scale_out.svg"), Path(path)
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, encoding="utf-8")
