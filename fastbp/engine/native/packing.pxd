# Packing: the way between the flat parameter vector (per layer weights, then biases) and the packed
# one that kernels read.
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from fastbp.engine.native.plan cimport Layer, Plan, element, size_of
from fastbp.engine.native.units cimport transpose_panel


cdef inline void copy_weights(Plan *f, Layer *layer, char *w, char *flat,
                              bint to_flat) noexcept nogil:
    """Between one layer's flat weights (n_in, n_out) and their packed form at w."""
    cdef int64_t size = size_of(f, 1), P = f.net.lanes, k, n, p, run
    cdef char *here
    for k in range(layer.n_in):
        if layer.narrow:
            for n in range(layer.n_out):
                here = element(f, w, k // P * layer.w_panel + n * P + k % P)
                copy_run(here, flat, size, to_flat)
                flat += size
        else:
            for p in range(layer.out_panels):
                run = min(P, layer.n_out - p * P) * size
                copy_run(element(f, w, p * layer.w_panel + k * layer.w_row), flat, run, to_flat)
                flat += run


cdef inline void copy_run(char *packed, char *flat, int64_t n_bytes, bint to_flat) noexcept nogil:
    if to_flat:
        memcpy(flat, packed, n_bytes)
    else:
        memcpy(packed, flat, n_bytes)


cdef inline void copy_layers(Plan *f, char *packed, char *flat, bint to_flat) noexcept nogil:
    """Between the flat vector (per layer: weights, then biases) and the packed one."""
    cdef int l
    cdef Layer *layer
    for l in range(f.net.n_layers):
        layer = &f.net.layers[l]
        copy_weights(f, layer, element(f, packed, layer.weight_at), flat, to_flat)
        flat = element(f, flat, layer.n_in * layer.n_out)
        copy_run(element(f, packed, layer.bias_at), flat, size_of(f, layer.n_out), to_flat)
        flat = element(f, flat, layer.n_out)


cdef inline void pack(Plan *f, char *packed, char *flat) noexcept nogil:
    copy_layers(f, packed, flat, False)


cdef inline void unpack(Plan *f, char *packed, char *flat) noexcept nogil:
    copy_layers(f, packed, flat, True)


cdef inline void refresh_transposes(Plan *f) noexcept nogil:
    """W^T of every layer that has one, from W."""
    cdef int l
    cdef int64_t p
    for l in range(f.net.n_layers):
        if f.net.layers[l].wt != NULL:
            for p in range(f.net.layers[l].out_panels):
                transpose_panel(f, &f.net.layers[l], p, 0, f.net.layers[l].n_in)


cdef inline void point_weights(Plan *f, char *packed) noexcept nogil:
    """Let the layers read these packed weights and biases (NULL: leave them)."""
    cdef int l
    if packed != NULL:
        for l in range(f.net.n_layers):
            f.net.layers[l].w = element(f, packed, f.net.layers[l].weight_at)
            f.net.layers[l].b = element(f, packed, f.net.layers[l].bias_at)
