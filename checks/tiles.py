"""The path of products for AMX against its emulation, bit for bit, on any machine with AVX512_BF16.

Compiles `checks/tiles.c` with the engine's own file: where the processor has tiles, they must have
the emulation's bits; where it has not, a signal handler takes the place of their instructions, and
what is checked is everything else: addresses, order of operands, rounding, configuration.
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
FLAGS = ("-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")


def check(optimisation, n, seed, figures):
    """Compile with one level of optimisation, and compare on n random shapes."""
    with tempfile.TemporaryDirectory() as place:
        program = str(Path(place) / "tiles")
        sources = [str(ROOT / "checks/tiles.c"), str(NATIVE / "bf16_amx.c")]
        command = [os.environ.get("CC", "gcc"), *FLAGS, optimisation, f"-I{NATIVE}"]
        subprocess.run([*command, *sources, "-o", program], check=True)
        done = subprocess.run(
            [program, str(n), str(seed)], capture_output=True, text=True, check=False
        )
    note = (done.stdout + done.stderr).strip()
    figures.require(f"{optimisation}: the same bits", done.returncode == 0, note)


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
    figures.finish()


if __name__ == "__main__":
    main()
