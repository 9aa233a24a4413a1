"""The path of products for AMX against its emulation, bit for bit, on any machine with AVX512_BF16.

Compiles `checks/tiles.c` with the engine's own file: where the processor has tiles, they must have
the emulation's bits; where it has not, a signal handler takes the place of their instructions, and
what is checked is everything else: addresses, order of operands, rounding, configuration.  Once
more with gcc's address and undefined-behaviour sanitizers.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from checks import ROOT
from checks.figures import Figures
from fastbp.engine import get_engine

NATIVE = ROOT / "fastbp/engine/native"
COMPILER = os.environ.get("CC", "gcc")
FLAGS = ("-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")


SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover", "-g")


def has_sanitizers(compiler):
    """Whether the compiler finds the library of its address sanitizer."""
    done = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip()).is_file()


def check(optimisation, n, seed, figures, more=()):
    """Compile with one level of optimisation, and compare on n random shapes."""
    with tempfile.TemporaryDirectory() as place:
        program = str(Path(place) / "tiles")
        sources = [str(ROOT / "checks/tiles.c"), str(NATIVE / "bf16_amx.c")]
        command = [COMPILER, *FLAGS, optimisation, *more, f"-I{NATIVE}"]
        subprocess.run([*command, *sources, "-o", program], check=True)
        done = subprocess.run(
            [program, str(n), str(seed)], capture_output=True, text=True, check=False
        )
    note = (done.stdout + done.stderr).strip()
    name = " ".join((optimisation, *more[:1]))
    figures.require(f"{name}: the same bits", done.returncode == 0, note[:3000])


def main():
    """Check at two levels of optimisation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures = Figures("tiles of AMX against their emulation")
    paths = get_engine("cython").supported_matmul_paths()
    if not {"amx", "avx512_bf16"} & set(paths):
        print("     this processor has no AVX512_BF16: nothing to check")
        figures.finish()
    for optimisation in ("-O1", "-O3"):
        check(optimisation, arguments.n, arguments.seed, figures)
    if has_sanitizers(COMPILER):
        check("-O1", arguments.n // 4, arguments.seed, figures, SANITIZERS)
    else:
        print("     no sanitizers here")
    figures.finish()


if __name__ == "__main__":
    main()
