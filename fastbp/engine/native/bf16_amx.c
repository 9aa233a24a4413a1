/* The path "amx": products over the tile registers of Intel's AMX (Sapphire Rapids and later), on
 * Linux. It has not run on such a processor yet: none was at hand. Its loops are bf16_tiles.h, which
 * tests run as the path "emulation"; the compiled code of this file ran with its instructions
 * trapped and done in plain C (`python -m checks.tiles`), with the emulation's bits.
 *
 * The six instructions are written out: the intrinsics of gcc 12 do not tell the compiler which
 * memory they read, so that stores before them may be missing. "memory" says it of each.
 *
 * Tile registers are a thread's own and cost the system's scheduler 8 KB while they are in use.
 * `begin` configures them, `end` gives them back: no code but this engine's ever runs in between
 * (signal handlers of others get a clean state from the kernel; Python's run outside). */
#include "kernels.h"
#include "bf16.h"
#include <float.h>
#include <math.h>

#if defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
#endif

#define ISA amx
#include "bf16_avx512.h"

/* Columns first, for tiles: pairs of rows transposed. */
INLINE void left_of(const int terms, const float *s, int64_t s_panel, int64_t rows, int64_t padded,
                    int64_t n_panels, uint16_t *l, int64_t l_panel)
{
    for (int64_t p = 0; p < n_panels; p++, s += s_panel, l += l_panel)
        for (int64_t first = 0; first < padded; first += 32) {
            __m512i values[2][16];
            UNROLL for (int i = 0; i < 16; i++)
            {
                __m512i both[2];
                pair_of_rows(terms, s, first + 2 * i, rows, both);
                UNROLL for (int term = 0; term < terms; term++) values[term][i] = both[term];
            }
            for (int term = 0; term < terms; term++)
                store_transposed(values[term], l + term * l_panel / 2 + first * 16, 16);
        }
}

static void vector_round_left(const float *s, int64_t s_panel, int64_t rows, int64_t padded,
                              int64_t n_panels, uint16_t *l, int64_t l_panel, int terms)
{
    BY_TERMS(left_of, s, s_panel, rows, padded, n_panels, l, l_panel);
}

#define TILE_INLINE INLINE
#define TILES const int tiles
#define TILES_HERE const int tiles = 0
#define TILES_GIVEN tiles
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::: "memory")
#define TILE_START(t, from, stride)                                                                \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t                                               \
                     :: "r"(from), "r"((int64_t)(stride)) : "memory")
#define TILE_STORE(t, to)                                                                          \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" :: "r"(to), "r"((int64_t)64) : "memory")
#define TILE_LOAD(t, from) TILE_START(t, from, 64)
#define TILE_MULTIPLY(s, a, b)                                                                     \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #s ::: "memory")
#include "bf16_tiles.h"

/* Eight tiles of 16 rows of 64 bytes (Intel SDM, volume 1, chapter 18: palette 1). */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} configuration __attribute__((aligned(64))) = {
    1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

static void configure_tiles(void)
{
    __asm__ volatile("ldtilecfg %0" :: "m"(configuration) : "memory");
}

static void release_tiles(void) { __asm__ volatile("tilerelease" ::: "memory"); }

/* Linux gives a process the tile registers when it asks (arch_prctl, ARCH_REQ_XCOMP_PERM): all its
 * threads, and its children. It refuses where a thread has an alternative stack for
 * signals that is too small for them. */
int fb_amx_is_allowed(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    static int allowed = -1; /* every thread that asks first finds the same */
    int answer = __atomic_load_n(&allowed, __ATOMIC_RELAXED);
    if (answer < 0) {
        answer = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
        __atomic_store_n(&allowed, answer, __ATOMIC_RELAXED);
    }
    return answer;
}

const fb_bf16 fb_bf16_amx = {
    .path = "amx",
    .least_work = {0.5, 1.3},
    .least_rows = 16,
    .least_inputs = 8,
    .times_as_fast = {3, 1.7},
    .strip = 4,
    .group = FB_BF16_ROWS,
    .begin = configure_tiles,
    .end = release_tiles,
    .round_rows = vector_round_rows,
    .round_pairs = vector_round_pairs,
    .round_across = vector_round_across,
    .round_left = vector_round_left,
    .product = tile_product,
    .weight_gradient = tile_weight_gradient,
};

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
int fb_amx_is_allowed(void) { return 0; }
#endif
