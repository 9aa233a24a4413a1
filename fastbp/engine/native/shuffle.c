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

static inline uint32_t mask_of(uint32_t i)
{
    return ~0u >> __builtin_clz(i);
}

void fb_shuffle(fb_mt19937 *state, int64_t *order, int64_t n)
{
    uint32_t words[FB_MT_WORDS], partners[PARTNERS];
    int pos = state->pos;
    temper(state->key, words);
    for (int64_t last = n - 1; last > 0;) {
        uint32_t i = (uint32_t)last;
        int64_t most = last < PARTNERS ? last : PARTNERS, drawn = 0;
        while (drawn < most) {
            if (pos == FB_MT_WORDS) {
                next_block(state->key);
                temper(state->key, words);
                pos = 0;
            }
            uint32_t j = words[pos++] & mask_of(i), accepted = j <= i;
            partners[drawn] = j;
            drawn += accepted;
            i -= accepted;
        }
        for (int64_t k = 0; k < drawn; k++, last--) {
            int64_t there = order[partners[k]];
            order[partners[k]] = order[last];
            order[last] = there;
        }
    }
    state->pos = pos;
}
