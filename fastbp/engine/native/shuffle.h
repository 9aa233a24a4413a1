/* Shuffles exactly as numpy.random.RandomState draws them, from the state of its MT19937.
 *
 * NumPy hands out one word per call of a function pointer; here a block of 624 words is made at a
 * time, and partners are drawn without a branch on rejection: a third of the time. */
#ifndef FASTBP_SHUFFLE_H
#define FASTBP_SHUFFLE_H

#include <stdint.h>

enum { FB_MT_WORDS = 624 };

/* The state behind NumPy's MT19937; session.pxi compares it with the public `state` before use. */
typedef struct {
    uint32_t key[FB_MT_WORDS];
    int pos;
} fb_mt19937;

/* Fisher-Yates from the last place down, partners by masked rejection; n < 2^32. */
void fb_shuffle(fb_mt19937 *state, int64_t *order, int64_t n);

#endif
