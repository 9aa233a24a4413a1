# Which kernels are used: the best the processor runs, or the one that FASTBP_ISA or
# set_instruction_set names.

cdef int chosen = 0


def supported_instruction_sets():
    """Names of the instruction sets this processor runs, best first."""
    return [fb_instruction_set(i).decode() for i in range(fb_n_instruction_sets())]


def instruction_set():
    """Name of the instruction set whose kernels new sessions and predictions use."""
    return fb_instruction_set(chosen).decode()


def set_instruction_set(name):
    """Use the kernels of one instruction set from now on; sessions keep what they started with.

    Parameters
    ----------
    name : str
        One of `supported_instruction_sets()`.
    """
    global chosen
    names = supported_instruction_sets()
    if name not in names:
        raise ValueError(f"instruction set {name!r} does not run here; choose one of {names}")
    chosen = names.index(name)


def choose_as_told(variable, choose):
    """Choose what an environment variable names, if it is set."""
    name = os.environ.get(variable)
    if not name:
        return
    try:
        choose(name.lower())
    except ValueError as error:
        raise ValueError(f"the environment variable {variable} is {name!r}: {error}") from None


fb_n_instruction_sets()
choose_as_told("FASTBP_ISA", set_instruction_set)
