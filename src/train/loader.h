/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h - which samples an optimiser step takes, and the arrays of a micro-batch.
 *
 * Both are pure functions, as is the cut into micro-batches (packing.h): the order of (seed, epoch),
 * a step's samples of (order, step), the cut of (the samples' lengths, limit).  So nothing has to be
 * stored to resume, and how the user splits a step into batch size and accumulation cannot matter. */
#ifndef MIL_TRAIN_LOADER_H
#define MIL_TRAIN_LOADER_H

#include "model/model.h"
#include "text/dataset.h"
#include "train/packing.h"

struct loader {
    const struct dataset *data; /* borrowed */
    int64_t per_step, epoch_steps;
    uint64_t seed;
    bool shuffle;
    int64_t *order;         /* of `epoch` */
    int64_t epoch;          /* -1: none yet */
    struct packing packing; /* for a step's samples, or LOADER_WINDOW of another set */
};
enum { LOADER_WINDOW = 512 };
enum mil_status loader_init(struct loader *l, const struct dataset *data, int64_t per_step,
                            bool shuffle, uint64_t seed, struct mil_error *err);
void loader_release(struct loader *l);
/* Bytes that loader_init takes. */
size_t loader_bytes(const struct dataset *data, int64_t per_step);
/* Samples of optimiser step `step` (from 1): *n indices, borrowed until the next call.  The last
 * step of an epoch takes what is left. */
const int64_t *loader_step(struct loader *l, int64_t step, int64_t *n);

/* Tokens of a sample, and of these the ones with a supervised successor. */
int64_t sample_tokens(const struct dataset *d, int64_t sample);
int64_t sample_rows(const struct dataset *d, int64_t sample);

/* The arrays of one micro-batch of at most max_tokens tokens. */
struct micro_batch {
    int32_t *position, *row, *label, *ids;
    uint64_t *row_key;
    struct attn_seq *seqs;
    int64_t max_tokens, max_seqs;
};
enum mil_status micro_batch_init(struct micro_batch *m, int64_t max_tokens, int64_t max_seqs,
                                 struct mil_error *err);
void micro_batch_release(struct micro_batch *m);
/* Bytes that micro_batch_init takes. */
size_t micro_batch_bytes(int64_t max_tokens, int64_t max_seqs);
/* Fill from samples[0, n) of d; b's arrays are m's.  A token's dropout key is
 * sample * 2^24 + position: it does not depend on the cut.  loss_scale, seed and step are left to
 * the caller. */
void micro_batch_fill(struct micro_batch *m, const struct dataset *d, const int64_t *samples,
                      int64_t n, struct batch *b);

#endif
