"""The extension modules of fastbp and their compiler flags, each with its reason; nothing else.

Everything else about the package is said in ``pyproject.toml``.  Switches in the environment:

FASTBP_REQUIRE_EXTENSION=1
    A failed compile is an error.  By default the install succeeds without the extension, and the
    first use says what is missing.
FASTBP_DEBUG=1
    Bounds checks, C asserts, symbols.
FASTBP_SANITIZE=address,undefined
    Compile and link with these sanitizers.
FASTBP_COVERAGE=1
    Count which lines run (gcov), those of the Cython files too; `.ci/coverage` reports.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError


def is_set(switch):
    """Return True unless the environment variable is absent, empty or 0."""
    return os.environ.get(switch, "") not in ("", "0")


REQUIRED = is_set("FASTBP_REQUIRE_EXTENSION")
DEBUG = is_set("FASTBP_DEBUG")
SANITIZE = os.environ.get("FASTBP_SANITIZE", "")
COVERAGE = is_set("FASTBP_COVERAGE")

NATIVE = Path("fastbp/engine/native")

COMPILE_FLAGS = [
    "-std=gnu11",  # vector extensions and target attributes of gcc and clang
    "-O3",
    "-fno-math-errno",  # sqrt becomes one instruction; nobody reads errno
    "-fno-trapping-math",  # selections become vector code; nobody traps floating-point errors
    "-ffp-contract=fast",  # a * b + c becomes one fused multiply-add where the processor has it
    "-fvisibility=hidden",  # calls between our own files are direct, not through the dynamic linker
    "-pthread",  # the engine's own workers
    "-g0",  # Python's default asks for symbols, which make the file several times larger
]
# Left out on purpose.  -march=native: one binary serves every machine, the kernels choose the
# instruction set at run time.  -ffast-math: it drops NaN and infinity, by which divergence is seen.
LINK_FLAGS = ["-pthread"]

# Of the file that Cython makes alone: how much gcc may put inline.  With its own limits four
# functions that every step passes stay calls, 5 % of the instructions of a tiny step (callgrind,
# November 2026).  clang knows the option and ignores it.
INLINE_FLAGS = [
    f"--param={limit}"
    for limit in (
        "inline-unit-growth=300",
        "large-function-growth=2000",
        "large-stack-frame-growth=10000",
        "max-inline-insns-single=2000",
    )
]

if DEBUG or SANITIZE:
    COMPILE_FLAGS += ["-O1", "-g", "-fno-omit-frame-pointer"]
if DEBUG:
    COMPILE_FLAGS += ["-UNDEBUG"]  # Python's default switches assert() off
if SANITIZE:
    COMPILE_FLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"]
    LINK_FLAGS += [f"-fsanitize={SANITIZE}"]
if DEBUG or SANITIZE or COVERAGE:
    INLINE_FLAGS = []
if COVERAGE:
    # Hardly optimised, so that few lines are merged; counted by several threads at once.
    COMPILE_FLAGS += ["-O1", "--coverage", "-fprofile-update=atomic"]
    LINK_FLAGS += ["--coverage"]

CYTHON_DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
}


def files_of(pattern):
    """Return the hand-written files of the engine; engine.c is what Cython makes of engine.pyx."""
    return sorted(str(path) for path in NATIVE.glob(pattern) if path.name != "engine.c")


class BuildNative(build_ext):
    """Compile the files of an extension side by side, by gcc or clang."""

    def build_extensions(self):
        """Let the compiler work on as many files as there are cores."""
        compile_files = self.compiler.compile

        def compile_one(source, extra_postargs=(), **options):
            more = INLINE_FLAGS if Path(source).name == "engine.c" else []
            return compile_files([source], extra_postargs=[*extra_postargs, *more], **options)

        def compile_side_by_side(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_one(source, **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_side_by_side
        super().build_extensions()

    def build_extension(self, ext):
        """Turn the .pyx into C, then compile; refuse a compiler without vector extensions."""
        if self.compiler.compiler_type == "msvc":
            raise CompileError("fastbp's kernels need gcc or clang; MSVC cannot compile them")
        # Forced: a change of directives is not seen in the age of a file.
        [generated] = cythonize(
            [ext], compiler_directives=CYTHON_DIRECTIVES, emit_linenums=COVERAGE, force=True
        )
        ext.sources = generated.sources
        super().build_extension(ext)


engine = Extension(
    "fastbp.engine.native.engine",
    sources=[str(NATIVE / "engine.pyx"), *files_of("*.c")],
    depends=files_of("*.h") + files_of("*.px[di]"),
    include_dirs=[str(NATIVE), numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    libraries=["m"] if os.name == "posix" else [],
    extra_compile_args=COMPILE_FLAGS,
    extra_link_args=LINK_FLAGS,
    optional=not REQUIRED,
)

setup(ext_modules=[engine], cmdclass={"build_ext": BuildNative})
