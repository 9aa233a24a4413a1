/* One number for the bytes of an array, to tell whether two arrays are the same.
 *
 * Against accidents, not against somebody who looks for collisions: ten times as fast as what
 * hashlib has. */
#ifndef FASTBP_FINGERPRINT_H
#define FASTBP_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

enum { FB_PIECE = 4096 };

/* bytes (size,) IN, of which the first, and then every `every`-th, piece of FB_PIECE bytes is read.
 * The same on every processor of one byte order. */
uint64_t fb_fingerprint(const void *bytes, size_t size, size_t every);

#endif
