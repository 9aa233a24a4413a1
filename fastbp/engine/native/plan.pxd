# What a fit is to the threads that compute it: layers, units, buffers, data. Structs only, and
# where an element of them lies; nothing is computed here.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastbp.engine.native.kernels cimport (FB_MAX_CONSTANTS, FB_MAX_HYPER, FB_MAX_SLOTS,
                                           fb_activation, fb_bf16, fb_csr, fb_kernels, fb_loss,
                                           fb_optimizer, fb_team)


cdef extern from *:
    # Tells the compiler what few networks need: that stays a call, and the rest becomes inline.
    bint unlikely(bint) noexcept nogil


cdef enum:
    DOUBLES_PER_LINE = 8
    BLOCK_ROWS = 1024            # larger minibatches are worked off in blocks of this many rows


cdef struct Layer:
    int64_t n_in, n_out, in_panels, out_panels
    bint narrow, sparse          # see kernels.h for the two forms; sparse: first layer over CSR
    int64_t weight_at, weight_size, bias_at   # places in the packed vector, in elements
    int64_t w_row, w_panel       # strides of W in elements
    char *w                      # packed, or the caller's flat weights (small predictions)
    char *b
    char *tail                   # last panel of flat weights, packed, if it is not a whole one
    char *wt                     # W^T in panels; NULL for the first and for a narrow layer
    char *a                      # activations (hidden), raw scores (wide output): panels
    char *slopes                 # of the activation at z, where they are not formulas of f(z)
    char *delta
    const fb_activation *activation
    char *out                    # what the next layer reads under dropout: `a`, or a copy of it
    uint64_t number              # of layer and member: whose draws these are
    uint32_t threshold           # draws below it leave a unit out
    double scale                 # of the units kept
    bint rounded                 # its products are in bfloat16, of these operands (see bf16.h):
    uint16_t *w_pairs            # W, for its forward product
    uint16_t *w_across           # W^T, for the input gradient; NULL for the first layer
    uint16_t *rows               # what it reads, for its forward product
    uint16_t *left               # the same, for its weight gradient
    uint16_t *delta_pairs        # delta, for its weight gradient


cdef struct Unit:                # a piece of a layer's weights, and the biases of its outputs where
    int l                        # it is the first of them; places are elements of the packed vector
    Layer *layer
    int64_t k0, n_k, p0, n_panels
    int64_t at, n, stride        # its weights: `count` runs of n, stride apart
    int64_t count
    int64_t bias_at, n_biases
    int64_t scales_at, n_scales  # multipliers of its inputs: n_members runs, scale_stride apart,
    int64_t scale_stride         # of a first layer that members share
    int64_t n_members            # otherwise 0
    double middle                # where its middle lies in what threads divide, from 0 to 1


cdef struct Network:             # fixed for a fit, once it is laid out
    const fb_kernels *kernels
    int n_layers, n_units, itemsize
    int n_members                           # 0: an ordinary network
    int n_shared, n_output_units            # units of the hidden layers, and of one output layer
    int64_t lanes, capacity, panel          # rows a buffer holds; capacity * lanes
    int64_t block_rows                      # rows worked on at a time
    int64_t group                           # shares of rows begin at multiples of it
    const fb_bf16 *bf16                     # products of rounded operands; NULL: there are none
    int terms                               # of an operand: 1 "medium", 2 "high"
    int64_t n_features, n_outputs, n_targets
    int64_t n_packed                        # length of the packed vector
    Layer *layers                           # of the network, or of the member in hand
    Layer *all_layers                       # n_layers for each member
    Unit *units                             # with members: shared, then member by member
    int64_t scales_at                       # multipliers of the inputs, in_panels * P a member
    bint by_columns, by_chunks              # how threads divide a step: see division.pxd
    double cost                             # of a row (of one member), in multiply-adds
    const fb_loss *loss
    double *loss_hyper
    double loss_factor


cdef struct Buffers:
    char *w                                 # packed parameters; g, slots, average in this layout
    char *g
    char *g1                                # gradient of the second chunk, where there are chunks
    char *slots[FB_MAX_SLOTS]
    char *average                           # of w over the steps, or NULL
    char *scratch                           # one unit's gradients (of two chunks) for each worker
    int64_t scratch_size
    char *scaled                            # members: the first layer's weights of the one in hand,
    char *sparse_u                          # and over CSR their gradient, which is 0 between blocks
    uint8_t *continues                      # over CSR: inputs whose weights add to those before
    char *a0                                # gathered X
    uint16_t *rows                          # a rounded operand that the next product reads
    char *scores                            # of the output layer, in columns
    char *delta_out                         # its delta, in the same place: the loss overwrites
    char *targets
    char *weights
    double *row_loss
    double *squares                         # one sum of w^2 per unit, each in a line of its own
    double *gradient_squares                # the same of the gradient, where there is a limit


cdef struct Steps:               # what a step does to the parameters; which units it leaves out
    const fb_optimizer *loops
    double hyper[FB_MAX_HYPER]
    int decay                               # which hyper-parameter is 0 for biases; -1: none
    double max_norm                         # of the gradient of a step; 0: any
    double ema_decay
    bint dropout                            # is there any
    uint64_t seed


cdef struct Call:                # what the caller lends and asks for, for this call
    const char *x
    fb_csr csr
    const char *y
    const char *sample_weight
    int64_t *order
    int64_t n_rows, n_samples, batch_size
    double alpha, gradient_factor
    const double *rates
    int64_t n_rates
    bint update                             # or is only the gradient wanted
    bint dropping                           # is dropout in force (while training)
    bint backward                           # does a backward pass follow, which needs slopes
    bint watch_signals
    int64_t deadline_ns                     # of the monotonic clock; 0: none
    int64_t steps_between_looks
    void *session
    int (*look)(void *) noexcept nogil      # asks Python for signals, for that session


cdef struct Progress:            # what worker 0 alone writes during an epoch
    int64_t t, step
    double h[FB_MAX_CONSTANTS]              # constants of the step in hand
    double bias_h[FB_MAX_CONSTANTS]         # those of biases, where they differ
    double average_share                    # of the newest w in this step
    uint64_t epoch_key
    double epoch_loss
    int64_t n_seen                          # samples of the epoch in hand that were trained on
    int64_t n_counted                       # the same of the last epoch that counts as done
    bint interrupted, out_of_time
    int64_t steps_since_look, last_look_ns


cdef struct Plan:
    Network net
    Buffers buf
    Steps opt
    Call call
    fb_team *team
    Progress *now                           # that of the session, also in workers' own plans
    char pad0[64]                           # a cache line away from what all workers read
    Progress progress
    char pad1[64]


cdef inline int64_t size_of(Plan *f, int64_t n) noexcept nogil:
    """Bytes of n elements of the fit's dtype."""
    return n * f.net.itemsize


cdef inline char *element(Plan *f, const char *array, int64_t i) noexcept nogil:
    """Where element i of an array of the fit's dtype is: of a vector, or of one of its columns."""
    return <char *>array + i * f.net.itemsize


cdef inline char *panel_row(Plan *f, const char *panels, int64_t p, int64_t r) noexcept nogil:
    """Where row r of panel p of a buffer is."""
    return <char *>panels + (p * f.net.panel + r * f.net.lanes) * f.net.itemsize


cdef inline const char *input_of(Plan *f, int l) noexcept nogil:
    """What layer l reads."""
    if l == 0:
        return f.buf.a0
    return f.net.layers[l - 1].out if f.call.dropping else f.net.layers[l - 1].a


cdef inline const int64_t *order_at(Plan *f, int64_t first) noexcept nogil:
    return NULL if f.call.order == NULL else f.call.order + first


cdef inline Layer *output_of(Plan *f, int member) noexcept nogil:
    """A member's output layer."""
    return &f.net.all_layers[(member + 1) * f.net.n_layers - 1]
