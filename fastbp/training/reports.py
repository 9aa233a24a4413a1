"""What `verbose` shows of training: one live line, sparse lines in a log, or every epoch.

Text and clock only: it is told of finished epochs, and knows nothing of how they are trained.
"""

import shutil
import sys
import time

REFRESH_S = 0.1  # between two states of the live line
SILENCE_S = 60.0  # longest pause between two lines of a log


class LiveLine:
    """A line that is written over where that can be; else one line after the other.

    Parameters
    ----------
    live : bool
        Whether it can.
    """

    def __init__(self, live):
        self.live, self.width = live, 0  # of what stands on the screen

    def show(self, line):
        """Print a state of the line."""
        if self.live:
            if sys.stdout.isatty():  # a line that wraps cannot be written over
                line = line[: shutil.get_terminal_size().columns - 1]
            print("\r" + line.ljust(self.width), end="", flush=True)
            self.width = len(line)
        else:
            print(line, flush=True)

    def end(self):
        """Let what follows stand on a line of its own."""
        if self.width:
            print()
            self.width = 0


class Report:
    """The lines of one call of `fit` or `partial_fit`.

    With `verbose` 1 (or True) a terminal or a notebook shows one line that is written over; any
    other output gets lines after 1, 2, 5, 10, 20, 50 ... epochs, at least one a minute, and after
    the last epoch. From 2 on, every epoch is printed in scikit-learn's words.

    Parameters
    ----------
    verbose : bool or int
        Not 0.
    max_iter : int
        Most epochs.
    max_time : float or None
        Most seconds.
    stream : StreamedRows or None, default=None
        Rows that pass by: their bytes are shown, and the live line moves within an epoch.
    """

    def __init__(self, verbose, max_iter, max_time=None, elapsed_s=0.0, stream=None):
        self.stream, self.n_before = stream, 0
        if stream is not None:
            stream.tell = self.within_epoch
        self.max_iter, self.max_time = max_iter, max_time
        self.every = verbose >= 2
        self.live = not self.every and can_write_over(sys.stdout)
        self.shown_at = time.perf_counter()
        self.begun = self.shown_at - elapsed_s
        self.latest = self.shown = None  # (n_iter, loss, score, n_samples)
        self.line = LiveLine(self.live)

    def after_epoch(self, n_iter, loss, score, n_samples):
        """Show an epoch, or not yet.

        Parameters
        ----------
        n_iter : int
            Epochs of this call.
        loss : float
        score : float or None
            On the validation set.
        n_samples : int
            Samples trained on in this call.
        """
        self.latest = n_iter, loss, score, n_samples
        self.n_before = n_samples
        if self.every:
            print(f"Iteration {n_iter}, loss = {loss:.8f}")
            if score is not None:
                print(f"Validation score: {score:f}")
            return
        silence_s = time.perf_counter() - self.shown_at
        due = silence_s >= REFRESH_S if self.live else silence_s >= SILENCE_S
        if due or (not self.live and is_milestone(n_iter)):
            self._show()

    def within_epoch(self, n_rows):
        """Show how far an epoch is, on the live line."""
        now = time.perf_counter()
        if self.live and now - self.shown_at >= REFRESH_S:
            self.shown_at = now
            epoch = 1 if self.latest is None else self.latest[0] + 1
            share = n_rows / max(self.stream.shape[0], 1)
            rate = self._describe_rate(self.n_before + n_rows, now - self.begun)
            self.line.show(f"Iteration {epoch}, {share:.0%} of the rows, {rate}")

    def _describe_rate(self, n_samples, elapsed_s):
        rate = n_samples / max(elapsed_s, 1e-9)
        text = f"{rate:,.0f} samples/s"
        if self.stream is not None:
            text += f", {rate * self.stream.bytes_per_row / 1e6:,.1f} MB/s"
        return text

    def say(self, sentence):
        """Print a sentence of its own."""
        self.close()
        print(sentence)

    def close(self):
        """Show the last epoch, if it is not to be seen yet, and end the live line."""
        if not self.every and self.latest is not self.shown:
            self._show()
        self.line.end()

    def _show(self):
        self.shown, self.shown_at = self.latest, time.perf_counter()
        self.line.show(self._describe(self.shown_at - self.begun))

    def _describe(self, elapsed_s):
        n_iter, loss, score, n_samples = self.latest
        parts = [f"Iteration {n_iter}", f"loss = {loss:.8f}"]
        if score is not None:
            parts.append(f"validation score = {score:f}")
        left_s = elapsed_s / n_iter * (self.max_iter - n_iter)
        if self.max_time is not None:
            left_s = min(left_s, self.max_time - elapsed_s)
        if n_iter < self.max_iter:
            parts.append(f"at most {format_duration(max(left_s, 0.0))} left")
        parts.append(self._describe_rate(n_samples, elapsed_s))
        return ", ".join(parts)


def can_write_over(stream):
    """Whether a carriage return starts the line anew there: a terminal, or a notebook's cell."""
    in_notebook = type(stream).__module__.startswith("ipykernel.")
    return in_notebook or (hasattr(stream, "isatty") and stream.isatty())


def is_milestone(n):
    """Whether n is 1, 2 or 5 times a power of ten."""
    return str(n).rstrip("0") in ("1", "2", "5")


def format_duration(seconds):
    """Return seconds in the largest two units that matter."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
