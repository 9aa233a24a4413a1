# From an entry of the tables (activations, losses, optimisers) to its loops: C, or what Numba makes
# of its formulas.


cdef const fb_activation *find_activation(const fb_kernels *k, entry, Memory memory) except NULL:
    """The entry's C loops, or loops that Numba compiles from its formulas."""
    cdef const fb_activation *a = k.activations
    cdef fb_activation *made
    kernel = (entry.kernel or "").encode()
    while a.name != NULL and a.name != kernel:
        a += 1
    if a.name != NULL:
        return a
    addresses = find_kernels().activation_kernel(entry, real_of(k)).addresses
    made = <fb_activation *>memory.take(sizeof(fb_activation))
    made.forward = <void (*)(void *, void *, int64_t) noexcept nogil><size_t>addresses["forward"]
    made.slope = <void (*)(void *, const void *, int64_t) noexcept nogil><size_t>addresses["slope"]
    return made


cdef const fb_loss *find_loss(const fb_kernels *k, entry, Memory memory) except NULL:
    """The entry's C loop, or one that Numba compiles from its formulas."""
    cdef const fb_loss *loss = k.losses
    cdef fb_loss *made
    kernel = (entry.kernel or "").encode()
    while loss.name != NULL and loss.name != kernel:
        loss += 1
    if loss.name != NULL:
        return loss
    address = find_kernels().loss_kernel(entry, real_of(k)).addresses["loss"]
    made = <fb_loss *>memory.take(sizeof(fb_loss))
    made.loss = <void (*)(const void *, void *, const void *, double, double *, int64_t, int64_t,
                          int64_t, const double *) noexcept nogil><size_t>address
    return made


cdef const fb_optimizer *find_optimizer(const fb_kernels *k, entry, Memory memory) except NULL:
    """The entry's C loop, or one that Numba compiles from its formula."""
    cdef const fb_optimizer *optimizer = k.optimizers
    cdef fb_optimizer *made
    kernel = (entry.kernel or "").encode()
    while optimizer.name != NULL and optimizer.name != kernel:
        optimizer += 1
    if optimizer.name != NULL:
        return optimizer
    addresses = find_kernels().optimizer_kernel(entry, real_of(k)).addresses
    made = <fb_optimizer *>memory.take(sizeof(fb_optimizer))
    made.n_slots = entry.n_slots
    made.prepare = <void (*)(const double *, double, double, double *) noexcept nogil><size_t>(
        addresses["prepare"])
    made.update = <double (*)(void *, const void *, void *, void *, int64_t, double,
                              const double *) noexcept nogil><size_t>addresses["update"]
    return made


cdef real_of(const fb_kernels *k):
    return np.float32 if k.itemsize == 4 else np.float64
