/* Tiles: how much of a result the matrix products keep in registers, and how rows become tiles.
 *
 * Part of the template (see template.h). A tile keeps MR rows x NP panels of the result in
 * registers; MR and NP are compile-time constants in every instance (the switch in `*_rows`), so
 * gcc and clang keep all accumulators there. Rows are split into tiles of nearly equal height: a
 * last tile of one row would run at a fraction of the speed. Tile sizes were chosen by measurement
 * (AVX-512: 14 x 2 forward, 8 x 3 weight gradient; AVX2: 6 x 1; the 128-bit sets: ROWS_128 x 1). */

#if VBYTES == 64
#define MR 14
#define NP_ROW 4
#define NP_MAX 2
#define GRAD_MR 8
#define GRAD_NP 3
#define GRAD_MR_ALONE 16 /* of a single panel: 8 accumulators would wait for each other */
#elif VBYTES == 32
#define MR 6
#define NP_ROW 4
#define NP_MAX 1
#define GRAD_MR 6
#define GRAD_NP 1
#define GRAD_MR_ALONE GRAD_MR
#else
#define MR ROWS_128
#define NP_ROW 1
#define NP_MAX 1
#define GRAD_MR ROWS_128
#define GRAD_NP 1
#define GRAD_MR_ALONE GRAD_MR
#endif

/* Rows in tiles of at most `most`: `low` tiles of `height`, then tiles one row higher. One division
 * for all of them, and none for a single tile. */
typedef struct {
    int64_t n, height, low;
} NAME(tiles);

INLINE NAME(tiles) NAME(split)(int64_t rows, int64_t most)
{
    if (rows <= most)
        return (NAME(tiles)){rows > 0, rows, 1};
    int64_t n = (rows + most - 1) / most, height = rows / n;
    return (NAME(tiles)){n, height, n - (rows - height * n)};
}
