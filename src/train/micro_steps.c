/* SPDX-License-Identifier: Apache-2.0 */
/* micro_steps.c - the samples of one optimiser step through the model, micro-batch by micro-batch.
 *
 * The loss of a step is the sum over its supervised tokens divided by their number; so every
 * micro-batch is run with loss_scale = 1 / (supervised tokens of the WHOLE step) and gradients are
 * summed.  Averaging means of micro-batches instead would weigh short samples more. */
#include <math.h>

#include "core/threads.h"
#include "train/run.h"

static int64_t count_rows(const struct dataset *d, const int64_t *samples, int64_t n) {
    int64_t rows = 0;
    for (int64_t i = 0; i < n; i++) rows += sample_rows(d, samples[i]);
    return rows;
}

enum mil_status run_gradients(struct run *r, const int64_t *samples, int64_t n, int64_t step,
                              struct step_sums *sums, struct mil_error *err) {
    const struct dataset *d = &r->session.data;
    *sums = (struct step_sums){.rows = count_rows(d, samples, n)};
    for (int64_t at = 0; at < n;) {
        int64_t take = loader_cut(d, samples, n, at, r->session.tokens_per_micro_batch);
        struct batch b;
        double loss = 0;
        micro_batch_fill(&r->micro, d, samples + at, take, &b);
        b.loss_scale = 1.0 / (double)sums->rows;
        b.seed = (uint64_t)r->config.seed;
        b.step = (uint32_t)step;
        TRY(step_run(r->step, &b, &loss, err));
        if (!isfinite(loss) && sums->bad_n == 0) {
            sums->bad_begin = at;
            sums->bad_n = take;
        }
        sums->loss += loss;
        sums->tokens += b.tokens;
        at += take;
    }
    return MIL_OK;
}

enum mil_status run_evaluate(struct run *r, struct mil_eval_row *out, struct mil_error *err) {
    const struct dataset *d = &r->session.eval;
    double start = clock_seconds(), sum = 0;
    *out = (struct mil_eval_row){.step = r->progress.step,
                                 .epoch = (double)r->progress.step / (double)r->session.epoch_steps,
                                 .samples = d->n};
    int64_t *order = mem_alloc(MEM_TEXT, (size_t)d->n, sizeof *order);
    if (!order) return error_nomem(err, (uint64_t)d->n * sizeof *order);
    enum mil_status st = MIL_OK;
    for (int64_t i = 0; i < d->n; i++) order[i] = i;
    for (int64_t at = 0; at < d->n && st == MIL_OK;) {
        int64_t take = loader_cut(d, order, d->n, at, r->session.tokens_per_micro_batch);
        struct batch b;
        double loss = 0;
        micro_batch_fill(&r->micro, d, order + at, take, &b);
        st = step_loss(r->step, &b, &loss, NULL, err);
        sum += loss;
        out->supervised_tokens += b.n_rows;
        at += take;
    }
    mem_free(order);
    out->eval_loss = sum / (double)out->supervised_tokens;
    out->seconds = clock_seconds() - start;
    return st;
}
