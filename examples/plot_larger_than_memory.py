"""
Data larger than memory: half a gigabyte in 150 MB
==================================================

``fit(source)`` reads its data in parts, within a stated memory.  Here a file of 500 MB is made and
trained on; the picture shows the memory that the training takes.
"""

import os
import tempfile
import threading
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from fastbp import BackpropClassifier
from fastbp.streams import from_arrays, predict_stream

MEGABYTES = 500  # of the file; what the picture shows does not depend on it

# %%
# A file
# ------
#
# Rows of 54 numbers, as a ``.npy`` file that is written piece by piece.  For Parquet files take
# :func:`~fastbp.streams.from_parquet`; of HDF5 or Zarr pass the arrays.

folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "X.npy")
n_rows, n_features = MEGABYTES * 10**6 // (4 * 54), 54
draw = np.random.Generator(np.random.SFC64(0))
teacher = draw.normal(size=(n_features, 3)).astype(np.float32)
y = np.empty(n_rows, np.int8)
X = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, n_features))
for first in range(0, n_rows, 50_000):
    rows = draw.standard_normal((min(50_000, n_rows - first), n_features), np.float32)
    X[first : first + len(rows)] = rows
    y[first : first + len(rows)] = (np.tanh(rows) @ teacher).argmax(axis=1)
del X, rows
print(f"{path.stat().st_size / 1e6:.0f} MB, {n_rows} rows")

# %%
# Training
# --------
#
# The source says where X and y are.  In each epoch blocks are read in another order, and the rows
# of a window are shuffled; while one window is trained on, a thread reads the next one.  What a
# process has in memory for itself is what Linux calls ``RssAnon``.


def own_megabytes():
    """Anonymous memory of this process; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon")), 0.0)


def watch(curve, done):
    """Note time and memory until it is done."""
    while not done.wait(0.02):
        curve.append((time.perf_counter(), own_megabytes()))


source = from_arrays(path, y, memory_limit="128MB")
net = BackpropClassifier(
    (32,), max_iter=3, tol=1.0, n_iter_no_change=1, early_stopping=True, random_state=0
)
before, begun, curve, done = own_megabytes(), time.perf_counter(), [], threading.Event()
watcher = threading.Thread(target=watch, args=(curve, done), daemon=True)
watcher.start()
net.fit(source)
done.set()
watcher.join()
print(f"accuracy on the rows that were set aside: {net.best_validation_score_:.3f}")
grown = max((megabytes for _, megabytes in curve), default=before) - before
print(f"the fit took {grown:.0f} MB")

# %%
# The picture
# -----------

seconds, megabytes = np.array(curve).T
figure, axes = plt.subplots(layout="constrained")
axes.plot(seconds - begun, megabytes - before, label="memory of the fit")
axes.axhline(path.stat().st_size / 1e6, color="C1", label="the file")
axes.axhline(128, color="C2", linestyle="--", label="memory_limit")
axes.set(xlabel="seconds", ylabel="MB", title="Anonymous memory, from just before fit")
axes.legend()

# %%
# Predictions
# -----------
#
# Predictions are written part by part, here to a file that can be memory-mapped, too.

out = predict_stream(net, from_arrays(path), os.path.join(folder.name, "p.npy"))
print(np.load(out, mmap_mode="r")[:5], y[:5])
folder.cleanup()
