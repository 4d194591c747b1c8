/* SPDX-License-Identifier: Apache-2.0 */
/* blocks.h - raw memory behind mem.c: large blocks on huge pages, kept for reuse where asked.
 * Thread-safe. */
#ifndef MIL_CORE_BLOCKS_H
#define MIL_CORE_BLOCKS_H

#include <stddef.h>

/* At least total bytes (a multiple of align, a power of two), *capacity of them; NULL without
 * memory. */
void *block_new(size_t total, size_t align, size_t *capacity);
/* capacity: what block_new said. */
void block_free(void *block, size_t capacity);
/* See mem_keep. */
void block_keep(size_t bytes);

#endif
