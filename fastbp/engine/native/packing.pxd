# Packing: the way between the flat parameter vector (per layer weights, then biases) and the packed
# one that kernels read.
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from fastbp.engine.native.plan cimport Layer, Plan, element, output_of, size_of
from fastbp.engine.native.rounding cimport round_weights
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
    for l in range(f.net.n_layers - (f.net.n_members > 0)):
        layer = &f.net.layers[l]
        copy_weights(f, layer, element(f, packed, layer.weight_at), flat, to_flat)
        flat = element(f, flat, layer.n_in * layer.n_out)
        copy_run(element(f, packed, layer.bias_at), flat, size_of(f, layer.n_out), to_flat)
        flat = element(f, flat, layer.n_out)
    if f.net.n_members > 0:
        copy_members(f, packed, flat, to_flat)


cdef inline void copy_members(Plan *f, char *packed, char *flat, bint to_flat) noexcept nogil:
    """The same of what members do not share: multipliers, output weights, output biases."""
    cdef int m
    cdef int64_t n = f.net.n_features, stride = f.net.layers[0].in_panels * f.net.lanes
    cdef Layer *layer
    for m in range(f.net.n_members):
        copy_run(element(f, packed, f.net.scales_at + m * stride), flat, size_of(f, n), to_flat)
        flat = element(f, flat, n)
    for m in range(f.net.n_members):
        layer = output_of(f, m)
        copy_weights(f, layer, element(f, packed, layer.weight_at), flat, to_flat)
        flat = element(f, flat, layer.n_in * layer.n_out)
    for m in range(f.net.n_members):
        layer = output_of(f, m)
        copy_run(element(f, packed, layer.bias_at), flat, size_of(f, layer.n_out), to_flat)
        flat = element(f, flat, layer.n_out)


cdef inline void pack(Plan *f, char *packed, char *flat) noexcept nogil:
    copy_layers(f, packed, flat, False)


cdef inline void unpack(Plan *f, char *packed, char *flat) noexcept nogil:
    copy_layers(f, packed, flat, True)


cdef inline void refresh_copies(Plan *f) noexcept nogil:
    """W^T of every layer that has one, and rounded weights, from W (of the first layer of members:
    `write_first_layer`)."""
    cdef int i
    cdef int64_t p
    cdef Layer *layer
    for i in range(f.net.n_layers * max(1, f.net.n_members)):
        layer = &f.net.all_layers[i]
        if i >= f.net.n_layers and (i + 1) % f.net.n_layers > 0:
            continue             # the first member's
        if layer.wt != NULL:
            for p in range(layer.out_panels):
                transpose_panel(f, layer, p, 0, layer.n_in)
        if layer.rounded and not (i == 0 and f.net.n_members > 0):
            round_weights(f, layer, 0, layer.n_in, 0, layer.out_panels)


cdef inline void point_weights(Plan *f, char *packed) noexcept nogil:
    """Let the layers read these packed weights and biases (NULL: leave them); the first of members
    reads what `write_first_layer` makes of its weights."""
    cdef int i
    cdef Layer *layer
    if packed == NULL:
        return
    for i in range(f.net.n_layers * max(1, f.net.n_members)):
        layer = &f.net.all_layers[i]
        layer.w = element(f, packed, layer.weight_at)
        layer.b = element(f, packed, layer.bias_at)
        if f.net.n_members > 0 and i % f.net.n_layers == 0:
            layer.w = f.buf.scaled
