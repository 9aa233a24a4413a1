"""``BackpropClassifier()`` against ``MLPClassifier()``, all defaults, digits as float64.

``python -m bench.defaults`` measures it in one process and prints JSON; ``python -m bench`` starts
it.  Nothing is set but ``random_state``: this is the swap a newcomer makes, threads and all.
"""

import argparse
import json
import warnings

from bench import measure
from bench.bench_search import digits


def estimators(max_iter):
    """Name -> function that makes the estimator; fastbp's are absent when it is not there."""
    from sklearn.neural_network import MLPClassifier

    makers = {"scikit-learn": lambda: MLPClassifier(random_state=0, max_iter=max_iter)}
    try:
        from fastbp import BackpropClassifier
    except ImportError as error:
        print(f"skipped fastbp: {error}", flush=True)
        return makers
    shared = {"random_state": 0, "max_iter": max_iter}
    makers["fastbp"] = lambda: BackpropClassifier(**shared)
    makers["fastbp, dtype=None"] = lambda: BackpropClassifier(**shared, dtype=None)
    return makers


def default_fits(n_rounds, max_iter=200):
    """Seconds per complete fit, with the epochs done and the training score of each."""
    X, y = digits()
    makers, fitted = estimators(max_iter), {}

    def fit(name):
        fitted[name] = makers[name]().fit(X, y)

    turns = {name: lambda name=name: measure.seconds_of(fit, name) for name in makers}
    for turn in turns.values():  # warm-up
        turn()
    rounds = measure.Rounds(turns, measure.usable_cores(), "float32").run(n_rounds)
    results = {
        name: {"n_iter": model.n_iter_, "score": model.score(X, y), "loss": float(model.loss_)}
        for name, model in fitted.items()
    }
    return rounds.summary() | {"results": results}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps(default_fits(arguments.rounds, max_iter=3 if arguments.quick else 200)))


if __name__ == "__main__":
    main()
