"""What a check prints: a line per figure, with its bound, and a last line with the verdict."""

import sys


class Figures:
    """Collects the figures of one check."""

    def __init__(self, title):
        self.failed = 0
        print(f"== {title}", flush=True)

    def add(self, name, value, most=None, least=None, unit=""):
        """Print a figure; it fails above `most` or below `least` (NaN always fails)."""
        low = least is not None and not value >= least
        high = most is not None and not value <= most
        bounds = [f">= {least:g}" for _ in [0] if least is not None]
        bounds += [f"<= {most:g}" for _ in [0] if most is not None]
        shown = f"{value:.3g}" if isinstance(value, float) else str(value)
        self.say(name, f"{shown} {unit}".strip(), ", ".join(bounds), not (low or high))

    def require(self, name, holds, note=""):
        """Print whether something that must hold does."""
        self.say(name, "yes" if holds else "no", note, bool(holds))

    def say(self, name, shown, bound, passed):
        """Print one line."""
        self.failed += not passed
        mark = "    " if passed else "FAIL"
        print(
            f"{mark} {name:<58} {shown:>14}  {f'({bound})' if bound else ''}".rstrip(), flush=True
        )

    def finish(self):
        """Print the verdict and end the program."""
        print("passed" if not self.failed else f"FAILED: {self.failed}", flush=True)
        sys.exit(1 if self.failed else 0)
