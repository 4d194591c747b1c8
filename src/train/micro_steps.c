/* SPDX-License-Identifier: Apache-2.0 */
/* micro_steps.c - the samples of one optimiser step through the model, micro-batch by micro-batch.
 *
 * The loss of a step is the sum over its supervised tokens divided by their number; so every
 * micro-batch is run with loss_scale = 1 / (supervised tokens of the WHOLE step) and gradients are
 * summed.  Averaging means of micro-batches instead would weigh short samples more. */
#include <math.h>

#include "core/profile.h"
#include "core/threads.h"
#include "train/run.h"

static int64_t count_rows(const struct dataset *d, const int64_t *samples, int64_t n) {
    int64_t rows = 0;
    for (int64_t i = 0; i < n; i++) rows += sample_rows(d, samples[i]);
    return rows;
}

/* The i-th micro-batch of the loader's packing into *b. */
static int64_t fill(struct run *r, const struct dataset *d, int64_t i, struct batch *b) {
    const struct packing *p = &r->loader.packing;
    int64_t begun = profile_begin(), n = p->begin[i + 1] - p->begin[i];
    micro_batch_fill(&r->micro, d, p->sample + p->begin[i], n, b);
    if (begun) profile_end(begun, PROFILE_BATCH, (double)micro_batch_bytes(b->tokens, n));
    return n;
}

enum mil_status run_gradients(struct run *r, const int64_t *samples, int64_t n, int64_t step,
                              struct step_sums *sums, struct mil_error *err) {
    const struct dataset *d = &r->session.data;
    struct packing *p = &r->loader.packing;
    *sums = (struct step_sums){.rows = count_rows(d, samples, n)};
    packing_fill(p, d, samples, n, r->session.tokens_per_micro_batch);
    for (int64_t i = 0; i < p->n; i++) {
        struct batch b;
        double loss = 0;
        profile_enter(PROFILE_DATA);
        int64_t take = fill(r, d, i, &b);
        b.loss_scale = 1.0 / (double)sums->rows;
        b.seed = (uint64_t)r->config.seed;
        b.step = (uint32_t)step;
        profile_enter(PROFILE_FORWARD);
        TRY(step_run(r->step, &b, &loss, err));
        if (!isfinite(loss) && sums->bad_n == 0) {
            sums->bad = p->sample + p->begin[i];
            sums->bad_n = take;
        }
        sums->loss += loss;
        sums->tokens += b.tokens;
    }
    return MIL_OK;
}

/* The loss of samples [first, first + n), added to *sum. */
static enum mil_status evaluate_window(struct run *r, int64_t first, int64_t n, double *sum,
                                       struct mil_eval_row *out, struct mil_error *err) {
    const struct dataset *d = &r->session.eval;
    struct packing *p = &r->loader.packing;
    int64_t samples[LOADER_WINDOW];
    for (int64_t i = 0; i < n; i++) samples[i] = first + i;
    packing_fill(p, d, samples, n, r->session.tokens_per_micro_batch);
    for (int64_t i = 0; i < p->n; i++) {
        struct batch b;
        double loss = 0;
        fill(r, d, i, &b);
        TRY(step_loss(r->step, &b, &loss, NULL, err));
        *sum += loss;
        out->supervised_tokens += b.n_rows;
    }
    return MIL_OK;
}

enum mil_status run_evaluate(struct run *r, struct mil_eval_row *out, struct mil_error *err) {
    int64_t n = r->session.eval.n;
    double start = clock_seconds(), sum = 0;
    *out = (struct mil_eval_row){.step = r->progress.step,
                                 .epoch = (double)r->progress.step / (double)r->session.epoch_steps,
                                 .samples = n};
    for (int64_t at = 0; at < n; at += LOADER_WINDOW)
        TRY(evaluate_window(r, at, n - at < LOADER_WINDOW ? n - at : LOADER_WINDOW, &sum, out,
                            err));
    out->eval_loss = sum / (double)out->supervised_tokens;
    out->seconds = clock_seconds() - start;
    return MIL_OK;
}
