"""
Sequences: vowels in generated speech
=====================================

A speaker says a row of vowels; which one, at each moment?  The audio is generated, so that the
example needs no download: a train of pulses, the voice, through four resonances, the mouth.
Speakers differ in pitch and in the length of the throat.

A multi-layer perceptron has no memory.  The usual remedy for sounds and sensors is a window: the
features of a moment together with those of its neighbours.
"""

# %%
# A synthetic voice
# -----------------
# Resonances (formants, in Hz) of five vowels, after the classic tables for men.

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import lfilter, stft

RATE = 8000  # samples per second
FORMANTS = {
    "a": (730, 1090, 2440, 3400),
    "e": (530, 1840, 2480, 3500),
    "i": (270, 2290, 3010, 3600),
    "o": (570, 840, 2410, 3300),
    "u": (300, 870, 2240, 3200),
}
VOWELS = sorted(FORMANTS)


def speak(vowels, rng):
    """Return the sound of some vowels in a row, and which one each sample belongs to."""
    pitch, throat = rng.uniform(90, 220), rng.uniform(0.85, 1.2)
    sounds, truth = [], []
    for vowel in vowels:
        n = int(RATE * rng.uniform(0.12, 0.25))
        glide = pitch * (1 + 0.08 * np.sin(np.linspace(0, np.pi, n) * rng.uniform(0.5, 2)))
        phase = np.cumsum(glide) / RATE
        pulses = np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.standard_normal(n)
        sound = lfilter([1.0], [1.0, -0.9], pulses)
        for formant in FORMANTS[vowel]:
            frequency = min(formant / throat * rng.normal(1, 0.05), 0.48 * RATE)
            radius = np.exp(-np.pi * (60 + 0.03 * frequency) / RATE)
            angle = 2 * np.pi * frequency / RATE
            sound = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], sound)
        sounds.append(sound / np.sqrt(np.mean(sound**2)) * rng.uniform(0.5, 1.5))
        truth += [vowel] * n
    noisy = np.concatenate(sounds)
    return noisy + 0.7 * rng.standard_normal(len(noisy)), np.array(truth)


# %%
# Features of a moment
# --------------------
# Every 10 ms the energies of 24 frequency bands, as logarithms, less their mean over the
# utterance.

BANDS, STEP, REACH = 24, 80, 4


def describe(sound, truth):
    """Return log band energies (n_moments, 24) and the vowel of each moment."""
    _, _, spectrum = stft(sound, RATE, nperseg=256, noverlap=256 - STEP)
    edges = np.linspace(0, len(spectrum), BANDS + 1).astype(int)
    energy = np.add.reduceat(np.abs(spectrum) ** 2, edges[:-1], axis=0)
    features = np.log(energy + 1e-8).T
    moments = np.minimum(np.arange(len(features)) * STEP, len(truth) - 1)
    return features - features.mean(axis=0), truth[moments]


def with_neighbours(features, reach):
    """Put the features of ``reach`` moments before and after beside those of each moment."""
    padded = np.pad(features, ((reach, reach), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    return windows.reshape(len(features), -1).astype(np.float32)


rng = np.random.default_rng(0)
utterances = [describe(*speak(rng.choice(VOWELS, 8), rng)) for _ in range(150)]
training, testing = utterances[:120], utterances[120:]  # other speakers in the test
print(sum(len(truth) for _, truth in training), "moments of 120 speakers to learn from")

# %%
# With and without neighbours
# ---------------------------

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import BackpropClassifier

models = {}
for reach in (0, REACH):
    X = np.concatenate([with_neighbours(features, reach) for features, _ in training])
    y = np.concatenate([truth for _, truth in training])
    X_test = np.concatenate([with_neighbours(features, reach) for features, _ in testing])
    y_test = np.concatenate([truth for _, truth in testing])
    clf = BackpropClassifier((64, 32), alpha=0.1, early_stopping=True, random_state=0)
    models[reach] = make_pipeline(StandardScaler(), clf).fit(X, y)
    accuracy = models[reach].score(X_test, y_test)
    print(f"{2 * reach + 1} moments of {BANDS} bands: accuracy {accuracy:.3f} on new speakers")

# %%
# One new speaker: what was said, and what the network makes of it.

features, truth = testing[0]
probabilities = models[REACH].predict_proba(with_neighbours(features, REACH))
seconds = np.arange(len(features)) * STEP / RATE

fig, (top, bottom) = plt.subplots(2, 1, figsize=(8, 4.6), sharex=True, layout="constrained")
top.pcolormesh(seconds, np.linspace(0, RATE / 2000, BANDS), features.T, cmap="magma")
top.set(ylabel="frequency (kHz)", title="band energies, and the vowel that was said")
for start in np.flatnonzero(np.append(True, truth[1:] != truth[:-1])):
    top.axvline(seconds[start], color="w", linewidth=1)
    top.text(seconds[start] + 0.02, 3.5, truth[start], color="w", fontsize=14, weight="bold")
bottom.stackplot(seconds, probabilities.T, labels=models[REACH].classes_)
bottom.set(ylabel="probability", xlabel="time (s)", ylim=(0, 1), xlim=(0, seconds[-1]))
bottom.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
