"""Searches and trainings on a Dask cluster whose workers are killed, stalled and joined by others.

A cluster of two worker processes runs searches, grid and halving in turn, and in each a worker
(now and then both) gets SIGKILL at a random moment; Dask's nannies start new ones.  Results and
learning curves must be those of the search in this process.

Then it trains models on four shards, in turn a network with an average an epoch, one with four, and
an ensemble on a table: at random moments a worker or both are killed, one is stopped for a while,
or a third one joins and leaves.  Each training must end, with the bits of the undisturbed one, or
raise.  Needs the extra ``dask``.
"""

import argparse
import os
import random
import signal
import threading
import time
import warnings
from contextlib import contextmanager, suppress

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from checks.figures import Figures
from fastbp import BackpropClassifier, BackpropSearchCV

NET = BackpropClassifier((64,), max_iter=60, tol=0.0, n_iter_no_change=np.inf, random_state=0)
PARAMS = {
    "pca__n_components": [10, 20],
    "backpropclassifier__alpha": [1e-4, 1e-2, 1.0],
    "backpropclassifier__learning_rate_init": [1e-4, 1e-3, 1e-2],
}


def search(X, y, strategy, client=None):
    """Search; return scores and curves."""
    found = BackpropSearchCV(
        make_pipeline(StandardScaler(), PCA(random_state=0), NET), PARAMS, strategy=strategy, cv=3,
        n_candidates=None, refit=False, client=client,
    ).fit(X, y)  # fmt: skip
    curves = [fold["loss"] for folds in found.candidate_curves_ for fold in folds]
    return found.cv_results_["mean_test_score"], curves


def count_wrong(found, expected):
    """Return how many numbers are not the same."""
    pairs = [(found[0], expected[0]), *zip(found[1], expected[1], strict=True)]
    return sum(
        len(b) if len(a) != len(b) else int((~((a == b) | ((a != a) & (b != b)))).sum())
        for a, b in pairs
    )


def has_two_workers(client):
    """Wait for two workers; a nanny whose worker died while it started may have given up."""
    with suppress(TimeoutError):
        client.wait_for_workers(2, timeout=60)
    return len(client.nthreads()) == 2


def kill_workers(client, delay_s, n_workers):
    """Kill some workers after a while; return how many there were to kill."""
    time.sleep(delay_s)
    found = [worker["pid"] for worker in client.run(lambda: {"pid": os.getpid()}).values()]
    for pid in random.sample(found, min(n_workers, len(found))):
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    return min(n_workers, len(found))


def disturb(cluster, what, delay_s):
    """Do something to workers after a while; return how many it was done to."""
    time.sleep(delay_s)
    pids = [nanny.pid for nanny in list(cluster.workers.values()) if nanny.pid is not None]
    if what == "join":
        cluster.scale(3)
        return 1
    chosen = pids if what == "kill both" else random.sample(pids, min(1, len(pids)))
    for pid in chosen:
        os.kill(pid, signal.SIGSTOP if what == "stall" else signal.SIGKILL)
    if what == "stall":
        time.sleep(random.uniform(0.2, 5.0))
        for pid in chosen:
            os.kill(pid, signal.SIGCONT)
    return len(chosen)


DISTURBANCES = ("kill", "stall", "kill both", "kill", "join")


@contextmanager
def open_cluster():
    """Yield a new cluster of two worker processes, and its client.

    What Dask itself raises while it closes a cluster whose workers were killed is no matter here.
    """
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )  # fmt: skip
    client = Client(cluster)
    try:
        yield cluster, client
    finally:
        for one in (client, cluster):
            with suppress(Exception):
                one.close(timeout=30)


def check_searches(n, figures):
    """Search, and kill workers at random moments."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1500, 30))
    y = (X[:, :3].sum(axis=1) > 0).astype(int)
    expected = {strategy: search(X, y, strategy) for strategy in ("grid", "halving")}
    number = n_wrong = n_raised = 0
    killed = []
    while number < n:
        with open_cluster() as (_, client):
            while number < n and has_two_workers(client):
                strategy, n_killed = ("grid", "halving")[number % 2], 1 + (number % 5 == 4)
                number += 1
                killer = threading.Thread(
                    target=lambda *how: killed.append(kill_workers(*how)),
                    args=(client, random.uniform(0.05, 1.0), n_killed),
                )
                killer.start()
                try:
                    n_wrong += count_wrong(search(X, y, strategy, client), expected[strategy])
                except RuntimeError as error:  # Dask gave up to start workers
                    n_raised += 1
                    print(f"     search {number} of {n}: {error}", flush=True)
                killer.join()
                print(f"     search {number} of {n}: {n_wrong} numbers wrong", flush=True)
    figures.add("workers killed in searches", sum(killed), least=n)
    figures.add("searches that raised, for no worker came back", n_raised, most=n // 5)
    figures.add("numbers that are not those of the local search", n_wrong, most=0)


def open_trainings():
    """Return what is trained: functions of a client that return a fitted estimator."""
    import dask.array as da

    from fastbp.dask import DaskBackpropClassifier, DaskTabularClassifier

    rng = np.random.default_rng(1)
    X = rng.standard_normal((8000, 30))
    y = X[:, :3].sum(axis=1) > 0
    X, y = da.from_array(X, chunks=(1000, 30)), da.from_array(y, chunks=1000)
    how = dict(random_state=0, n_shards=4, timeout=60.0)

    def train(client, **more):
        net = DaskBackpropClassifier((64,), n_iter_no_change=np.inf, client=client, **how, **more)
        return net.fit(X, y)

    def train_table(client):
        nets = DaskTabularClassifier(n_networks=2, max_iter=6, client=client, dropout=0.0, **how)
        return nets.fit(X[:, :5], y)

    return (
        lambda client: train(client, max_iter=25),
        lambda client: train(client, max_iter=6, average_every=0.25),
        train_table,
    )


def bits_of(fitted):
    """Return loss curves and weights of all networks of a fitted estimator."""
    nets = getattr(fitted, "networks_", [fitted])
    arrays = [array for net in nets for array in (*net.coefs_, *net.intercepts_)]
    return [net.loss_curve_ for net in nets], [array.tobytes() for array in arrays]


def time_calm(client, trainings):
    """Return bits and seconds of each training that nobody disturbs."""
    found = []
    for train in trainings:
        train(client)  # what is compiled and imported comes first
        begun = time.perf_counter()
        bits = bits_of(train(client))
        found.append((bits, time.perf_counter() - begun))
    return found


def check_trainings(n, figures):
    """Train, and disturb it at random moments (POSIX only: signals)."""
    trainings, calm, number = open_trainings(), [], 0
    n_wrong, done, raised, longest = 0, [], [], 0.0
    while number < n:  # a worker too many, or too few, asks for a new one
        with open_cluster() as (cluster, client):
            calm = calm or time_calm(client, trainings)
            while number < n and has_two_workers(client):
                what = DISTURBANCES[number % len(DISTURBANCES)]
                train = trainings[number % len(trainings)]
                bits, seconds = calm[number % len(trainings)]
                number += 1
                delay_s = random.uniform(0.0, seconds)
                thread = threading.Thread(
                    target=lambda *how: done.append(disturb(*how)), args=(cluster, what, delay_s)
                )
                thread.start()
                begun, n_before = time.perf_counter(), len(raised)
                try:
                    n_wrong += bits_of(train(client)) != bits
                except Exception as error:
                    raised.append(f"{what}: {type(error).__name__}: {error}")
                took = time.perf_counter() - begun
                longest = max(longest, took)
                thread.join()
                print(
                    f"     training {number} of {n} ({what}): {took:.1f} s, {n_wrong} wrong, "
                    f"{len(raised)} raised", *raised[n_before:], flush=True,
                )  # fmt: skip
    figures.add("trainings", n)
    figures.add("workers killed, stalled, joined in trainings", sum(done))
    figures.add("trainings that raised", len(raised))
    figures.add("trainings without the undisturbed bits", n_wrong, most=0)
    figures.add("seconds of the longest", longest, most=180)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=10, help="searches")
    parser.add_argument("--trainings", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    warnings.simplefilter("ignore")
    figures = Figures(f"{arguments.n} searches and {arguments.trainings} trainings disturbed")
    if arguments.n:
        check_searches(arguments.n, figures)
    if arguments.trainings:
        check_trainings(arguments.trainings, figures)
    figures.finish()


if __name__ == "__main__":
    main()
