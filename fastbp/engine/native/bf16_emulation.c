/* The path "emulation": products over tiles in plain C, with the bits of the tile unit, for tests on
 * any machine. Slow, and never chosen unasked. */
#include "kernels.h"
#include "bf16.h"

/* A tile of sums in `even`; of an operand its values of even k, and of odd k. */
typedef struct {
    float even[16][16], odd[16][16];
} tile;

static void zero_tile(tile *t) { memset(t->even, 0, sizeof t->even); }

static void start_tile(tile *t, const float *from, int64_t stride)
{
    for (int i = 0; i < 16; i++)
        memcpy(t->even[i], from + i * stride / 4, 64);
}

static void store_tile(const tile *t, float *to) { memcpy(to, t->even, sizeof t->even); }

static void load_tile(tile *t, const uint16_t *from)
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            t->even[i][j] = fb_from_bf16(from[32 * i + 2 * j]);
            t->odd[i][j] = fb_from_bf16(from[32 * i + 2 * j + 1]);
        }
}

/* x y + s, rounded once. The product of two bfloat16 is exact in double; so the sum is rounded twice
 * only where one of both is too small beside the other to come near a tie of the second rounding. */
static inline float multiply_add(float x, float y, float s)
{
    return fb_flushed((float)((double)x * y + s));
}

/* sums += left right, for 32 k */
static void multiply_tiles(tile *sums, const tile *left, const tile *right)
{
    for (int i = 0; i < 16; i++) {
        float even[16] = {0}, odd[16] = {0};
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 16; j++) {
                even[j] = multiply_add(left->even[i][k], right->even[k][j], even[j]);
                odd[j] = multiply_add(left->odd[i][k], right->odd[k][j], odd[j]);
            }
        for (int j = 0; j < 16; j++)
            sums->even[i][j] = fb_flushed(fb_flushed(sums->even[i][j]) + fb_flushed(even[j] + odd[j]));
    }
}

#define TILE_INLINE static
#define TILES tile *tiles
#define TILES_HERE tile tiles[8]
#define TILES_GIVEN tiles
#define TILE_ZERO(t) zero_tile(tiles + (t))
#define TILE_START(t, from, stride) start_tile(tiles + (t), from, stride)
#define TILE_STORE(t, to) store_tile(tiles + (t), to)
#define TILE_LOAD(t, from) load_tile(tiles + (t), from)
#define TILE_MULTIPLY(s, a, b) multiply_tiles(tiles + (s), tiles + (a), tiles + (b))
#include "bf16_tiles.h"

/* Both terms of S(i, n), which may be past the last row or panel, to `a` and half a panel further. */
static void put(const float *s, int64_t s_panel, int64_t rows, int64_t n_panels, int64_t i,
                int64_t n, uint16_t *a, int64_t a_panel, int terms)
{
    const float x = i < rows && n < 16 * n_panels ? s[n / 16 * s_panel + i * 16 + n % 16] : 0;
    *a = fb_to_bf16(x);
    if (terms == 2)
        a[a_panel / 2] = fb_to_bf16(x - fb_from_bf16(*a));
}

static void round_rows(const float *s, int64_t s_panel, int64_t rows, int64_t n_panels, uint16_t *a,
                       int64_t a_panel, int terms)
{
    for (int64_t n = 0; n < (n_panels + 1) / 2 * 32; n++)
        for (int64_t i = 0; i < rows; i++)
            put(s, s_panel, rows, n_panels, i, n, a + n / 32 * a_panel + i * 32 + n % 32, a_panel,
                terms);
}

static void round_pairs(const float *s, int64_t s_panel, int64_t rows, int64_t padded,
                        int64_t n_panels, uint16_t *b, int64_t b_panel, int terms)
{
    for (int64_t n = 0; n < n_panels * 16; n++)
        for (int64_t i = 0; i < padded; i++)
            put(s, s_panel, rows, n_panels, i, n,
                b + n / 16 * b_panel + i / 2 * 32 + n % 16 * 2 + i % 2, b_panel, terms);
}

static void round_across(const float *s, int64_t s_panel, int64_t rows, int64_t n_panels,
                         uint16_t *b, int64_t b_panel, int terms)
{
    for (int64_t n = 0; n < n_panels * 16; n++)
        for (int64_t i = 0; i < (rows + 15) / 16 * 16; i++)
            put(s, s_panel, rows, n_panels, i, n,
                b + i / 16 * b_panel + n / 2 * 32 + i % 16 * 2 + n % 2, b_panel, terms);
}

static void round_left(const float *s, int64_t s_panel, int64_t rows, int64_t padded,
                       int64_t n_panels, uint16_t *l, int64_t l_panel, int terms)
{
    for (int64_t n = 0; n < n_panels * 16; n++)
        for (int64_t i = 0; i < padded; i++)
            put(s, s_panel, rows, n_panels, i, n,
                l + n / 16 * l_panel + i / 32 * 512 + n % 16 * 32 + i % 32, l_panel, terms);
}

static void nothing(void) {}

const fb_bf16 fb_bf16_emulation = {
    .path = "emulation",
    .least_work = {0, 0},
    .least_rows = 1,
    .least_inputs = 1,
    .times_as_fast = {1, 1},
    .strip = 4,
    .group = FB_BF16_ROWS,
    .begin = nothing,
    .end = nothing,
    .round_rows = round_rows,
    .round_pairs = round_pairs,
    .round_across = round_across,
    .round_left = round_left,
    .product = tile_product,
    .weight_gradient = tile_weight_gradient,
};
