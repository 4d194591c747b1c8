/* SPDX-License-Identifier: Apache-2.0 */
/* packing.h - the samples of one optimiser step sorted into micro-batches, so that these are full.
 *
 * First-fit decreasing: the longest sample first, each into the first micro-batch that has room; of
 * equal lengths the earlier comes first.  It needs at most 11/9 of the fewest possible micro-batches
 * (plus one), and within one sequences come in falling length, which evens out the threads' work.
 * A pure function of the samples' lengths in their order and the limit: nothing has to be stored to
 * resume. */
#ifndef MIL_TRAIN_PACKING_H
#define MIL_TRAIN_PACKING_H

#include "text/dataset.h"

struct packing {
    int64_t n;       /* micro-batches */
    int64_t *sample; /* the i-th one takes sample[begin[i], begin[i + 1]) */
    int64_t *begin;  /* n + 1 */
    struct packed_item *items;
    int64_t *room; /* a tree: tokens left in each micro-batch, and the most of each subtree */
    int64_t cap;   /* samples it can take */
};
/* For up to cap samples at a time.  packing_release also after failure. */
enum mil_status packing_init(struct packing *p, int64_t cap, struct mil_error *err);
void packing_release(struct packing *p);
/* Bytes that packing_init takes. */
size_t packing_bytes(int64_t cap);
/* Sort samples[0, n) into micro-batches of at most `limit` tokens; a sample longer than that has one
 * to itself. */
void packing_fill(struct packing *p, const struct dataset *d, const int64_t *samples, int64_t n,
                  int64_t limit);
/* Tokens of the i-th micro-batch. */
int64_t packing_tokens(const struct packing *p, const struct dataset *d, int64_t i);

#endif
