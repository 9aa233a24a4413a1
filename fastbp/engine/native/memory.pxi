# The memory of a fit.


cdef class Memory:
    """Aligned zeroed blocks that are freed together."""

    cdef list blocks

    def __cinit__(self):
        self.blocks = []

    cdef char *take(self, int64_t n_bytes) except NULL:
        cdef char *block = <char *>fb_allocate(<size_t>max(n_bytes, 64))
        if block == NULL:
            raise MemoryError(f"the engine could not allocate {n_bytes} bytes")
        try:
            self.blocks.append(<size_t>block)
        except MemoryError:
            fb_release(block)
            raise
        return block

    def __dealloc__(self):
        for block in self.blocks:
            fb_release(<void *><size_t>block)


def fail_allocation(int64_t after):
    """For tests: after so many more allocations let the engine's next one fail, once.

    Parameters
    ----------
    after : int
        Negative: let none fail.

    Returns
    -------
    int
        What was left of the count before: negative if an allocation failed, or none was to.
    """
    return fb_fail_allocation(after)
