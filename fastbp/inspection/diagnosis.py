"""A report in words and numbers: what is wrong with a trained network, why, and how to fix it.

The order of the checks and the report's looks live here; the checks themselves in `symptoms`.
"""

from dataclasses import dataclass, field
from html import escape
from textwrap import fill

import numpy as np

from fastbp.inspection import symptoms
from fastbp.inspection.architecture import headline
from fastbp.inspection.backpropagation import backpropagate
from fastbp.inspection.batch import Batch, Network, is_scaled, open_wrappers
from fastbp.tables import format_number, format_table, html_table

WIDTH = 88  # of the printed report

_COLUMNS = (
    "layer", "units", "dead", "saturated", "activation", "delta (RMS)", "gradient (RMS)",
    "weights (RMS)",
)  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """Result of `diagnose`; prints as a report, also in notebooks.

    Attributes
    ----------
    findings : list of Finding
        Problems first, and of these what costs most; empty if nothing was found.
    layers : list of dict
        For each layer: "layer", "n_units", "dead", "saturated" (numbers of units; 0 for the
        output), "activation_mean", "activation_std", "delta_rms", "gradient_rms", "weight_rms".
    numbers : dict of str to float
        Losses and what else the findings rest on.
    title : str
        The network in a line.
    """

    __module__ = "fastbp.inspection"

    findings: list
    layers: list
    numbers: dict
    title: str = field(default="", repr=False)

    @property
    def topics(self):
        """Set of the topics that were found."""
        return {finding.topic for finding in self.findings}

    def _cells(self):
        def cells(row):
            hidden = row is not self.layers[-1]
            return (
                row["layer"],
                f"{row['n_units']:,}",
                f"{row['dead']:,}" if hidden else "",
                f"{row['saturated']:,}" if hidden else "",
                f"{row['activation_mean']:.3g} ± {row['activation_std']:.2g}",
                format_number(row["delta_rms"]),
                format_number(row["gradient_rms"]),
                format_number(row["weight_rms"]),
            )

        return [cells(row) for row in self.layers]

    def _verdict(self):
        counts = [
            (n, severity)
            for severity in ("problem", "hint")
            if (n := sum(finding.severity == severity for finding in self.findings))
        ]
        if not counts:
            return "Nothing found."
        return ", ".join(f"{n} {severity}{'s' * (n > 1)}" for n, severity in counts) + "."

    def __str__(self):
        parts = [f"{self.title}\n{self._verdict()}"]
        for finding in self.findings:
            lines = (finding.seen, f"Fix: {finding.fix}")
            lines = [
                fill(line, WIDTH, initial_indent="  ", subsequent_indent="  ") for line in lines
            ]
            parts.append("\n".join([f"{finding.severity.upper()}: {finding.topic}", *lines]))
        parts.append(format_table(_COLUMNS, self._cells(), "<>>>>>>>"))
        width = max(map(len, self.numbers))
        parts.append(
            "\n".join(f"{name:{width}}  {_written(value)}" for name, value in self.numbers.items())
        )
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self):
        found = "".join(
            '<div style="border-left:0.3em solid '
            f"{'#d55e00' if finding.severity == 'problem' else '#0072b2'};"
            'padding:0.2em 0.8em;margin:0.5em 0">'
            f"<b>{finding.severity.capitalize()}: {finding.topic}</b><br>{escape(finding.seen)}"
            f"<br><i>Fix:</i> {escape(finding.fix)}</div>"
            for finding in self.findings
        )
        numbers = [(name, _written(value)) for name, value in self.numbers.items()]
        return (
            f"<div><div>{escape(self.title)}</div><div><b>{self._verdict()}</b></div>{found}"
            f"{html_table(_COLUMNS, self._cells(), '<>>>>>>>')}"
            f"{html_table(('number', 'value'), numbers, '<>')}</div>"
        )


def _written(value):
    return f"{value:,}" if isinstance(value, int) else format_number(value)


def diagnose(estimator, X, y, sample_weight=None, *, X_val=None, y_val=None, max_samples=2000):
    """Look for what keeps a network from learning well, and say how to fix it.

    Looks for unscaled inputs and targets, a y without variety, dead and saturated units, vanishing
    and exploding gradients, a learning rate that is too high or too low, too few epochs,
    over-fitting and under-fitting.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        Fitted; or a pipeline, search or TransformedTargetRegressor that ends in one. Not a
        TabularClassifier or TabularRegressor.
    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        Training data, as `estimator` takes them.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        As for `fit`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each sample of X.
    X_val, y_val : array-like, default=None
        Data that were not trained on: with them over-fitting shows. Without them it is judged by
        what training recorded on a validation set, if it did.
    max_samples : int, default=2000
        Of more samples this many are looked at, evenly spread over the rows.

    Returns
    -------
    diagnosis : Diagnosis
        Print it; in a notebook it shows as HTML.

    Raises
    ------
    ValueError, TypeError
        For bad data, as in `fit`, or an estimator that holds no network of fastbp.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    :ref:`The user guide <flat_loss>` shows a report and explains its numbers.

    Findings are sorted by what they cost: measured for dead and saturated units (their share) and
    for over-fitting (the gap between the skills), an order of importance for the others. Dead units
    are a finding from a tenth of a layer.

    A unit is dead if its slope is 0 for every sample (relu): no gradient passes, it cannot learn.
    A unit of an activation that is nowhere quite flat (tanh, logistic) is saturated if its slope is
    below 1 % of the largest for 90 % of the samples. Skill is
    ``1 - loss / loss of the best constant prediction``, without the penalty. Losses are those that
    `fit` minimised, with the weights of samples and classes and, with `scale_targets`, of scaled y.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from fastbp import BackpropClassifier
    >>> from fastbp.inspection import diagnose
    >>> X, y = load_wine(return_X_y=True)
    >>> clf = BackpropClassifier(tol=0.1, random_state=0).fit(X, y)
    >>> worst = diagnose(clf, X, y).findings[0]
    >>> print(worst.topic)
    unscaled inputs
    >>> print(worst.fix)
    put StandardScaler (or RobustScaler, for outliers) before the network in a pipeline.
    """
    if (X_val is None) != (y_val is None):
        raise ValueError("X_val and y_val must be given together.")
    final, X, y_inside = open_wrappers(estimator, X, y)
    network = Network.of(final)
    batch = Batch.of(network, X, y_inside, sample_weight, max_samples)
    result = backpropagate(network, batch)
    layers = symptoms.measure_layers(network, result)
    numbers = {"samples": len(batch.targets), "loss": result.loss, "penalty": result.penalty}
    if vars(final).get("loss_") is not None:
        numbers["loss of the last epoch"] = final.loss_
    scaled = is_scaled(estimator)
    findings = list(symptoms.check_variety(batch, final))
    if not findings:
        findings += symptoms.check_inputs(batch, final, scaled=scaled)
        findings += symptoms.check_targets(batch, final)
        if not np.isfinite(result.loss):
            findings.append(symptoms.not_finite(batch, final, scaled=scaled))
    if np.isfinite(result.loss):
        numbers["loss of a constant"] = symptoms.best_constant_loss(batch)
        numbers["skill"] = symptoms.skill_of(batch, result)
        if X_val is not None:
            _, X_val, y_val = open_wrappers(estimator, X_val, y_val)
            unseen = Batch.of(network, X_val, y_val, None, max_samples)
            numbers["validation skill"] = symptoms.skill_of(unseen, backpropagate(network, unseen))
        if "constant y" not in {finding.topic for finding in findings}:
            findings += _judge(network, batch, layers, numbers, findings)
    findings.sort(key=lambda finding: (finding.severity != "problem", -finding.cost))
    return Diagnosis(findings, layers, numbers, headline(final))


def _judge(network, batch, layers, numbers, of_data):
    """List findings about training; where there are some `of_data`, few are about the rate."""
    estimator, skill = network.estimator, numbers["skill"]
    first = _first_for_data(of_data)
    of_data = [finding for finding in of_data if finding.topic != "outliers"]  # of few rows
    found = [] if of_data else list(symptoms.check_small_targets(batch, numbers))
    of_data = [*of_data, *found]
    low = [] if of_data else symptoms.name_low_rate(batch, estimator, skill)
    found += symptoms.check_low_rate(low)
    if not low:
        found += symptoms.check_curve(estimator, skill, batch.n_samples, bool(of_data))
    raises_rate = any(finding.raises_rate for finding in found)
    found += symptoms.check_units(
        network,
        layers,
        first=first,
        raises_rate=raises_rate,
        moved=not low,
    )
    found += symptoms.check_flow(layers, estimator)
    found += symptoms.check_validation_curve(estimator)
    found += symptoms.check_fit(
        estimator, numbers, len(batch.targets), others=bool(of_data or found), moved=not low
    )
    return found


def _first_for_data(of_data):
    """Say what to do first about data that findings are about; None if none are."""
    topics = {finding.topic for finding in of_data}
    if "unscaled inputs" in topics:
        return "scale X first"
    if "outliers" in topics:
        return "clip the outliers of X first"
    return "scale y first" if "unscaled targets" in topics else None
