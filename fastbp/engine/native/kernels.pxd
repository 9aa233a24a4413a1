# The C interface of the kernels, the shuffle, the fingerprint and the workers, as Cython sees it.
# Meanings, shapes and which arrays are written stand in kernels.h, shuffle.h, fingerprint.h and
# team.h.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "bf16.h" nogil:
    enum: FB_BF16_ROWS
    ctypedef struct fb_bf16:
        const char *path
        double least_work[2]
        int64_t least_rows, least_inputs
        double times_as_fast[2]
        int64_t strip, group
        void (*begin)() noexcept nogil
        void (*end)() noexcept nogil
        void (*round_rows)(const float *, int64_t, int64_t, int64_t, uint16_t *, int64_t,
                           int) noexcept nogil
        void (*round_pairs)(const float *, int64_t, int64_t, int64_t, int64_t, uint16_t *, int64_t,
                            int) noexcept nogil
        void (*round_across)(const float *, int64_t, int64_t, int64_t, uint16_t *, int64_t,
                             int) noexcept nogil
        void (*round_left)(const float *, int64_t, int64_t, int64_t, int64_t, uint16_t *, int64_t,
                           int) noexcept nogil
        void (*product)(const uint16_t *, int64_t, const uint16_t *, int64_t, const float *,
                        float *, int64_t, const float *, int, int64_t, int64_t, int64_t,
                        int) noexcept nogil
        void (*weight_gradient)(const uint16_t *, int64_t, const uint16_t *, int64_t, float *,
                                int64_t, int64_t, int64_t, int64_t, int, int) noexcept nogil
    int fb_n_bf16_paths() noexcept
    const fb_bf16 *fb_bf16_path(int) noexcept
    int fb_bf16_is_fast(int) noexcept
    int fb_bf16_is_allowed(const fb_bf16 *) noexcept


cdef extern from "fingerprint.h" nogil:
    uint64_t fb_fingerprint(const void *, size_t, size_t) noexcept


cdef extern from "shuffle.h" nogil:
    enum: FB_MT_WORDS
    ctypedef struct fb_mt19937:
        uint32_t key[624]
        int pos
    void fb_shuffle(fb_mt19937 *, int64_t *, int64_t) noexcept


cdef extern from "kernels.h" nogil:
    enum: FB_MAX_HYPER
    enum: FB_MAX_SLOTS
    enum: FB_MAX_CONSTANTS
    enum: FB_OWN_LOOP
    enum: FB_NO_LOOP
    enum: FB_IN_PRODUCT
    enum: FB_AS_IT_IS
    enum: FB_RELU
    enum: FB_GATE
    enum: FB_IDENTITY
    enum: FB_LOGISTIC
    enum: FB_SOFTMAX
    enum: FB_EXP
    enum: FB_LOG_LOGISTIC
    enum: FB_LOG_SOFTMAX
    enum: FB_CUMULATIVE_SOFTPLUS

    ctypedef struct fb_activation:
        const char *name
        void (*forward)(void *, void *, int64_t) noexcept nogil
        void (*slope)(void *, const void *, int64_t) noexcept nogil
        int fused

    ctypedef struct fb_loss:
        const char *name
        void (*loss)(const void *, void *, const void *, double, double *, int64_t, int64_t,
                     int64_t, const double *) noexcept nogil

    ctypedef struct fb_optimizer:
        const char *name
        int n_slots
        void (*prepare)(const double *, double, double, double *) noexcept nogil
        double (*update)(void *, const void *, void *, void *, int64_t, double,
                         const double *) noexcept nogil

    ctypedef struct fb_csr:
        const void *data
        const void *indices
        const void *indptr
        int index_bytes

    ctypedef struct fb_kernels:
        const char *isa
        int itemsize
        int lanes
        void (*product)(const void *, int64_t, int, const void *, int64_t, int64_t,
                        const void *, void *, int64_t, const void *, int, int64_t, int64_t,
                        int64_t) noexcept nogil
        void (*narrow_product)(const void *, int64_t, const void *, const void *, void *, int64_t,
                               int64_t, int64_t, int64_t) noexcept nogil
        void (*weight_gradient)(const void *, int64_t, const void *, int64_t, void *, int64_t,
                                void *, int64_t, int64_t, int64_t, int) noexcept nogil
        void (*narrow_gradient)(const void *, int64_t, const void *, int64_t, void *, void *,
                                int64_t, int64_t, int64_t, int) noexcept nogil
        void (*add)(void *, const void *, int64_t) noexcept nogil
        void (*gather)(const void *, const void *, int64_t, const int64_t *, int64_t, int64_t,
                       void *, int64_t) noexcept nogil
        void (*gather_columns)(const void *, int64_t, const int64_t *, int64_t, int64_t, void *,
                               int64_t) noexcept nogil
        void (*panels_to_columns)(const void *, int64_t, void *, int64_t, int64_t,
                                  int64_t) noexcept nogil
        void (*columns_to_panels)(const void *, int64_t, void *, int64_t, int64_t,
                                  int64_t) noexcept nogil
        void (*transpose_block)(const void *, int64_t, void *) noexcept nogil
        void (*zero_padding)(void *, int64_t, int64_t) noexcept nogil
        void (*columns_to_rows)(const void *, int64_t, void *, int64_t, int64_t) noexcept nogil
        int (*join_columns)(const void *const *, int64_t, int64_t, void *) noexcept nogil
        void (*sparse_product)(const fb_csr *, const int64_t *, int64_t, int64_t, const void *,
                               int64_t, const void *, const void *, void *, int64_t,
                               int64_t) noexcept nogil
        void (*sparse_gradient)(const fb_csr *, const int64_t *, int64_t, int64_t, const void *,
                                int64_t, void *, int64_t, int64_t, int64_t, int64_t) noexcept nogil
        void (*sparse_clear)(const fb_csr *, const int64_t *, int64_t, int64_t, void *, int64_t,
                             int64_t, int64_t, int64_t) noexcept nogil
        void (*scale_rows)(const void *, int64_t, int64_t, const void *, void *, int64_t,
                           int64_t) noexcept nogil
        void (*member_gradient)(const void *, int64_t, int64_t, const void *, const void *,
                                int64_t, void *, void *, int64_t, int64_t, int, int) noexcept nogil
        void (*run_rows)(const void *, int64_t, const void *, const uint8_t *, const int32_t *,
                         void *, int64_t, int64_t) noexcept nogil
        void (*run_gradient)(const void *, int64_t, const void *, const uint8_t *, void *, void *,
                             void *, int64_t, int64_t, int, int) noexcept nogil
        void (*dropout)(const void *, void *, int64_t, int64_t, int64_t, uint64_t, int64_t,
                        int64_t, uint32_t, double) noexcept nogil
        double (*gradient_squares)(const void *, const void *, int64_t, double) noexcept nogil
        void (*shrink)(void *, int64_t, double) noexcept nogil
        void (*average)(void *, const void *, int64_t, double) noexcept nogil
        void (*transform)(int, void *, int64_t, int64_t) noexcept nogil
        int (*all_finite)(const void *, int64_t) noexcept nogil
        double (*peak)(int64_t) noexcept nogil
        const fb_activation *activations
        const fb_loss *losses
        const fb_optimizer *optimizers

    uint64_t fb_mix(uint64_t) noexcept nogil
    int fb_n_instruction_sets() noexcept nogil
    const char *fb_instruction_set(int) noexcept nogil
    const fb_kernels *fb_find_kernels(int, int) noexcept nogil
    uint64_t fb_flush_subnormals() noexcept nogil
    void fb_restore_float_state(uint64_t) noexcept nogil
    void *fb_allocate(size_t) noexcept nogil
    void fb_release(void *) noexcept nogil
    int64_t fb_fail_allocation(int64_t) noexcept nogil
    int64_t fb_clock_ns() noexcept nogil


cdef extern from "team.h" nogil:
    enum: FB_TEAM_MAX
    ctypedef struct fb_team:
        pass
    ctypedef void (*fb_task)(void *, int, int) noexcept nogil
    fb_team *fb_team_start(int) noexcept nogil
    int fb_team_size(const fb_team *) noexcept nogil
    void fb_team_run(fb_team *, fb_task, void *, int) noexcept nogil
    int fb_team_barrier(fb_team *, int, int) noexcept nogil
    void fb_team_stop(fb_team *) noexcept nogil
    void fb_team_forget(fb_team *) noexcept nogil
    int fb_running_fits(int) noexcept nogil
    void fb_reset_running_fits() noexcept nogil
