/* SPDX-License-Identifier: Apache-2.0 */
/* blocks.c - see blocks.h.
 *
 * A decomposition takes a few hundred MiB and gives them back, a model is hundreds of those: handing
 * the pages back to the system and having them cleared again took an eighth of the time (and a
 * virtual machine's host may take them away meanwhile).  So freed blocks of at least LARGE bytes can
 * be kept: a short list, best fit, at most twice as large as asked.  Blocks of HUGE and up ask for huge
 * pages, which is advice only. */
#include "core/blocks.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { LARGE = 1 << 20, HUGE_BLOCK = 8 << 20, HUGE_PAGE = 2 << 20, KEPT = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept {
    void *block;
    size_t capacity;
} kept[KEPT];
static size_t n_kept, kept_bytes, limit;

/* The best fit among the kept, or NULL. */
static void *take_kept(size_t total, size_t *capacity) {
    size_t best = KEPT;
    void *block = NULL;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_kept; i++)
        if (kept[i].capacity >= total && kept[i].capacity / 2 <= total &&
            (best == KEPT || kept[i].capacity < kept[best].capacity))
            best = i;
    if (best != KEPT) {
        block = kept[best].block;
        *capacity = kept[best].capacity;
        kept_bytes -= *capacity;
        kept[best] = kept[--n_kept];
    }
    pthread_mutex_unlock(&lock);
    return block;
}

/* true: the block is kept. */
static bool keep(void *block, size_t capacity) {
    pthread_mutex_lock(&lock);
    bool room = n_kept < KEPT && kept_bytes <= limit && capacity <= limit - kept_bytes;
    if (room) {
        kept[n_kept++] = (struct kept){block, capacity};
        kept_bytes += capacity;
    }
    pthread_mutex_unlock(&lock);
    return room;
}

void *block_new(size_t total, size_t align, size_t *capacity) {
    void *block = total >= LARGE ? take_kept(total, capacity) : NULL;
    if (block) return block;
    *capacity = total;
    if (total < HUGE_BLOCK) return aligned_alloc(align, total);
    if (total > SIZE_MAX - HUGE_PAGE) return NULL;
    *capacity = (total + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    block = aligned_alloc(HUGE_PAGE, *capacity);
    if (block) madvise(block, *capacity, MADV_HUGEPAGE);
    return block;
}

void block_free(void *block, size_t capacity) {
    if (capacity < LARGE || !keep(block, capacity)) free(block);
}

void block_keep(size_t bytes) {
    pthread_mutex_lock(&lock);
    limit = bytes;
    while (kept_bytes > limit) {
        kept_bytes -= kept[--n_kept].capacity;
        free(kept[n_kept].block);
    }
    pthread_mutex_unlock(&lock);
}
