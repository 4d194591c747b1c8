/* SPDX-License-Identifier: Apache-2.0 */
/* loader.c - data order, and the arrays of a micro-batch.
 *
 * A micro-batch lays its sequences back to back:
 *     ids        a a a a b b b c c c c c      rows: token t with a supervised token t + 1 of the
 *     position   0 1 2 3 0 1 2 0 1 2 3 4            same sequence; label: that token
 *     seqs       [0, 4)  [4, 7) [7, 12)
 */
#include "train/loader.h"

#include "core/mem.h"
#include "core/rng.h"
#include "train/schedule.h"

/* Samples that are sorted into micro-batches at once, at most. */
static int64_t most_at_once(const struct dataset *data, int64_t per_step) {
    int64_t n = per_step < data->n ? per_step : data->n;
    return n > LOADER_WINDOW ? n : LOADER_WINDOW;
}

size_t loader_bytes(const struct dataset *data, int64_t per_step) {
    return (size_t)data->n * sizeof(int64_t) + packing_bytes(most_at_once(data, per_step));
}

enum mil_status loader_init(struct loader *l, const struct dataset *data, int64_t per_step,
                            bool shuffle, uint64_t seed, struct mil_error *err) {
    *l = (struct loader){.data = data,
                         .per_step = per_step,
                         .epoch_steps = schedule_epoch_steps(data->n, per_step),
                         .seed = seed,
                         .shuffle = shuffle,
                         .epoch = -1};
    l->order = mem_alloc(MEM_TEXT, (size_t)data->n, sizeof *l->order);
    if (!l->order) return error_nomem(err, (uint64_t)data->n * sizeof *l->order);
    return packing_init(&l->packing, most_at_once(data, per_step), err);
}

void loader_release(struct loader *l) {
    packing_release(&l->packing);
    mem_free(l->order);
    l->order = NULL;
}

static void load_epoch(struct loader *l, int64_t epoch) {
    if (l->epoch == epoch) return;
    l->epoch = epoch;
    if (l->shuffle) {
        rng_permutation(l->seed, rng_stream(RNG_SHUFFLE, 0), (uint32_t)epoch, l->data->n, l->order);
        return;
    }
    for (int64_t i = 0; i < l->data->n; i++) l->order[i] = i;
}

const int64_t *loader_step(struct loader *l, int64_t step, int64_t *n) {
    int64_t begin = (step - 1) % l->epoch_steps * l->per_step;
    load_epoch(l, (step - 1) / l->epoch_steps);
    *n = l->data->n - begin < l->per_step ? l->data->n - begin : l->per_step;
    return l->order + begin;
}

int64_t sample_tokens(const struct dataset *d, int64_t sample) {
    return d->begin[sample + 1] - d->begin[sample];
}

int64_t sample_rows(const struct dataset *d, int64_t sample) {
    int64_t rows = 0;
    for (int64_t t = d->begin[sample] + 1; t < d->begin[sample + 1]; t++) rows += d->labels[t] != 0;
    return rows;
}

size_t micro_batch_bytes(int64_t max_tokens, int64_t max_seqs) {
    return (size_t)max_tokens * (4 * sizeof(int32_t) + sizeof(uint64_t)) +
           (size_t)max_seqs * sizeof(struct attn_seq);
}

enum mil_status micro_batch_init(struct micro_batch *m, int64_t max_tokens, int64_t max_seqs,
                                 struct mil_error *err) {
    size_t t = (size_t)max_tokens;
    *m = (struct micro_batch){
        .position = mem_alloc(MEM_TEXT, t, sizeof(int32_t)),
        .row = mem_alloc(MEM_TEXT, t, sizeof(int32_t)),
        .label = mem_alloc(MEM_TEXT, t, sizeof(int32_t)),
        .ids = mem_alloc(MEM_TEXT, t, sizeof(int32_t)),
        .row_key = mem_alloc(MEM_TEXT, t, sizeof(uint64_t)),
        .seqs = mem_alloc(MEM_TEXT, (size_t)max_seqs, sizeof(struct attn_seq)),
        .max_tokens = max_tokens,
        .max_seqs = max_seqs,
    };
    if (m->position && m->row && m->label && m->ids && m->row_key && m->seqs) return MIL_OK;
    micro_batch_release(m);
    return error_nomem(err, micro_batch_bytes(max_tokens, max_seqs));
}

void micro_batch_release(struct micro_batch *m) {
    mem_free(m->position);
    mem_free(m->row);
    mem_free(m->label);
    mem_free(m->ids);
    mem_free(m->row_key);
    mem_free(m->seqs);
    *m = (struct micro_batch){0};
}

void micro_batch_fill(struct micro_batch *m, const struct dataset *d, const int64_t *samples,
                      int64_t n, struct batch *b) {
    int64_t at = 0, rows = 0;
    REQUIRE(n <= m->max_seqs);
    for (int64_t i = 0; i < n; i++) {
        int64_t begin = d->begin[samples[i]], tokens = sample_tokens(d, samples[i]);
        REQUIRE(at + tokens <= m->max_tokens);
        m->seqs[i] = (struct attn_seq){at, tokens, at, tokens};
        for (int64_t t = 0; t < tokens; t++) {
            m->ids[at + t] = d->ids[begin + t];
            m->position[at + t] = (int32_t)t;
            m->row_key[at + t] = ((uint64_t)samples[i] << 24) + (uint64_t)t;
            if (t + 1 == tokens || !d->labels[begin + t + 1]) continue;
            m->row[rows] = (int32_t)(at + t);
            m->label[rows++] = d->ids[begin + t + 1];
        }
        at += tokens;
    }
    *b = (struct batch){.tokens = at,
                        .ids = m->ids,
                        .position = m->position,
                        .seqs = m->seqs,
                        .n_seqs = n,
                        .row_key = m->row_key,
                        .row = m->row,
                        .label = m->label,
                        .n_rows = rows};
}
