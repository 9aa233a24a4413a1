#include "shuffle.h"

enum { SHIFT = 397, PARTNERS = 512 };

/* Matsumoto and Nishimura, ACM TOMACS 8 (1998): the recurrence, and the tempering of its words. */
static inline uint32_t twist(uint32_t high, uint32_t low, uint32_t far)
{
    uint32_t y = (high & 0x80000000u) | (low & 0x7fffffffu);
    return far ^ (y >> 1) ^ (-(y & 1u) & 0x9908b0dfu);
}

static void next_block(uint32_t *key)
{
    for (int k = 0; k < FB_MT_WORDS - SHIFT; k++)
        key[k] = twist(key[k], key[k + 1], key[k + SHIFT]);
    for (int k = FB_MT_WORDS - SHIFT; k < FB_MT_WORDS - 1; k++)
        key[k] = twist(key[k], key[k + 1], key[k + SHIFT - FB_MT_WORDS]);
    key[FB_MT_WORDS - 1] = twist(key[FB_MT_WORDS - 1], key[0], key[SHIFT - 1]);
}

static void temper(const uint32_t *key, uint32_t *words)
{
    for (int k = 0; k < FB_MT_WORDS; k++) {
        uint32_t y = key[k];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680u;
        y ^= (y << 15) & 0xefc60000u;
        words[k] = y ^ (y >> 18);
    }
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Partners of places i, i - 1, ... above 0, `most` of them: words masked to the bits of the place,
 * those above it refused. Within a power of two the mask stands, so only a comparison and two
 * additions wait for the word before; and every word takes at most one place, so that a run of
 * words needs no test in between. */
static void draw(fb_mt19937 *state, uint32_t *words, uint32_t i, int64_t most, uint32_t *partners)
{
    for (int64_t drawn = 0; drawn < most;) {
        uint32_t mask = ~0u >> __builtin_clz(i), half = mask >> 1;
        if (state->pos == FB_MT_WORDS) {
            next_block(state->key);
            temper(state->key, words);
            state->pos = 0;
        }
        const uint32_t *word = words + state->pos;
        int64_t run = least(least(FB_MT_WORDS - state->pos, most - drawn), i - half);
        for (int64_t k = 0; k < run; k++) {
            uint32_t j = word[k] & mask, accepted = j <= i;
            partners[drawn] = j;
            drawn += accepted;
            i -= accepted;
        }
        state->pos += (int)run;
    }
}

void fb_shuffle(fb_mt19937 *state, int64_t *order, int64_t n)
{
    uint32_t words[FB_MT_WORDS], partners[PARTNERS];
    temper(state->key, words);
    for (int64_t last = n - 1; last > 0;) {
        int64_t most = least(last, PARTNERS);
        draw(state, words, (uint32_t)last, most, partners);
        for (int64_t k = 0; k < most; k++, last--) {
            int64_t there = order[partners[k]];
            order[partners[k]] = order[last];
            order[last] = there;
        }
    }
}
