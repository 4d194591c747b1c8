/* SPDX-License-Identifier: Apache-2.0 */
/* gradients.c - see gradients.h.
 *
 *     G = (1 / N) sum over the supervised tokens of the first samples of d(-log p(token)) / dW,   N: their number
 * in the run's own data order and packing.  So long and short samples weigh by their tokens, as in an optimiser
 * step over all of them (micro_steps.c); an average of the batches' means would weigh by batch.
 *
 * linear_backward sums dW where a module has a gradient tensor.  Where the backend computes in host memory and in
 * f32 that is the caller's array; otherwise it is the backend's, and is brought over at the end. */
#include "train/gradients.h"

#include <math.h>

#include "core/log.h"
#include "core/mem.h"
#include "core/threads.h"
#include "train/run.h"

#define TELL_AFTER 10.0 /* seconds */

/* ---- which samples ---- */

/* The most tokens of a micro-batch of these steps, in the loader's packing; and what they sum up to. */
static int64_t survey(struct loader *l, const struct session *s, int64_t steps,
                      struct gradients *sums) {
    struct packing *p = &l->packing;
    int64_t most = 1, n;
    for (int64_t step = 1; step <= steps; step++) {
        const int64_t *samples = loader_step(l, step, &n);
        packing_fill(p, l->data, samples, n, s->tokens_per_micro_batch);
        for (int64_t i = 0; i < p->n; i++) {
            int64_t tokens = packing_tokens(p, l->data, i);
            if (tokens > most) most = tokens;
            sums->tokens += tokens;
        }
        for (int64_t i = 0; i < n; i++) sums->rows += sample_rows(l->data, samples[i]);
        sums->samples += n;
    }
    return most;
}

static int64_t steps_of(const struct loader *l, int64_t batches) {
    return batches < l->epoch_steps ? batches : l->epoch_steps;
}

static struct step_options options_of(const struct session *s, int64_t max_tokens) {
    return (struct step_options){max_tokens, max_tokens, s->head_chunk, s->recompute};
}

enum mil_status gradients_open(struct gradients *g, const struct session *s, struct model *m,
                               int64_t batches, struct mil_error *err) {
    const struct config *c = s->config;
    uint64_t seed = (uint64_t)(c->data_seed >= 0 ? c->data_seed : c->seed);
    *g = (struct gradients){.session = s, .model = m};
    TRY(loader_init(&g->loader, &s->data, s->per_step, c->shuffle, seed, err));
    g->steps = steps_of(&g->loader, batches);
    g->options = options_of(s, survey(&g->loader, s, g->steps, g));
    return micro_batch_init(&g->micro, g->options.max_tokens, g->options.max_tokens, err);
}

void gradients_release(struct gradients *g) {
    micro_batch_release(&g->micro);
    loader_release(&g->loader);
    *g = (struct gradients){0};
}

size_t gradients_bytes(const struct session *s, const struct model *skeleton, struct loader *loader,
                       int64_t batches) {
    struct plan plan = {0};
    struct gradients sums = {0};
    int64_t tokens = s->max_tokens;
    if (loader) tokens = survey(loader, s, steps_of(loader, batches), &sums);
    struct step_options o = options_of(s, tokens);
    step_plan(skeleton, &o, &plan);
    size_t bytes = plan_bytes(&plan, PLAN_STEP) + plan_bytes(&plan, PLAN_CALL) +
                   micro_batch_bytes(tokens, tokens);
    if (loader) bytes += loader_bytes(&s->data, s->per_step);
    plan_release(&plan);
    return bytes;
}

/* ---- gradient tensors ---- */

static struct tensor *gradient_of(struct gradients *g, const struct delta *d) {
    return &g->model->layers[d->layer].linear[d->module].dw;
}

static bool in_place(const struct gradients *g) {
    const struct backend *b = g->model->backend;
    return backend_shares_host(b) && backend_real(b) == DT_F32;
}

static enum mil_status attach(struct gradients *g, const struct delta *d, float *out,
                              struct mil_error *err) {
    struct backend *b = g->model->backend;
    struct tensor *dw = gradient_of(g, d);
    size_t bytes = (size_t)(d->m * d->n) * dtype_size(backend_real(b));
    REQUIRE(!g->model->layers[d->layer].linear[d->module].adapter && !tensor_present(*dw));
    void *data = in_place(g) ? out : backend_alloc(b, MEM_ADAPTER, bytes);
    if (!data) return error_nomem(err, bytes);
    *dw = tensor_of(data, backend_real(b), d->m, d->n);
    if (!in_place(g)) be_zero(backend_stream(b), *dw);
    return MIL_OK;
}

/* The backend's sum added to the host's. */
static enum mil_status bring(struct gradients *g, const struct delta *d, float *out,
                             struct mil_error *err) {
    const struct tensor dw = *gradient_of(g, d);
    size_t n = (size_t)(d->m * d->n);
    if (in_place(g)) return MIL_OK;
    void *host = mem_alloc(MEM_SCRATCH, n, dtype_size(dw.dtype));
    if (!host) return error_nomem(err, n * dtype_size(dw.dtype));
    backend_download(g->model->backend, host, dw.data, n * dtype_size(dw.dtype));
    for (size_t i = 0; i < n; i++)
        out[i] += dw.dtype == DT_F64 ? (float)((double *)host)[i] : ((float *)host)[i];
    mem_free(host);
    return MIL_OK;
}

static void detach(struct gradients *g, const struct delta *d) {
    struct tensor *dw = gradient_of(g, d);
    if (!in_place(g) && tensor_present(*dw)) backend_release(g->model->backend, dw->data);
    *dw = (struct tensor){0};
}

/* ---- the pass ---- */

static enum mil_status run_micro_batch(struct gradients *g, struct step *step, int64_t i,
                                       double *sum, struct mil_error *err) {
    const struct packing *p = &g->loader.packing;
    const int64_t *samples = p->sample + p->begin[i];
    struct batch b;
    double loss;
    if (train_stop_requested())
        return error_set(err, MIL_INTERRUPTED,
                         "stopped on request while the gradient was measured");
    micro_batch_fill(&g->micro, g->loader.data, samples, p->begin[i + 1] - p->begin[i], &b);
    b.loss_scale = 1.0 / (double)g->rows;
    TRY(step_run(step, &b, &loss, err));
    *sum += loss;
    if (isfinite(loss)) return MIL_OK;
    return error_set(err, MIL_NUMERIC,
                     "the loss of sample %lld, or of one beside it, is not finite before training: "
                     "there is no gradient to start from; try compute_dtype f32",
                     (long long)samples[0]);
}

/* Where a pass takes long: how far it is. */
static void tell(const struct gradients *g, int64_t done, double start, double *told) {
    double now = clock_seconds();
    if (now - *told < TELL_AFTER || done == g->samples) return;
    *told = now;
    log_info("gradient: %lld of %lld samples, %.0f s left", (long long)done, (long long)g->samples,
             (now - start) * (double)(g->samples - done) / (double)done);
}

static enum mil_status run_steps(struct gradients *g, struct step *step, double *sum,
                                 struct mil_error *err) {
    struct packing *p = &g->loader.packing;
    double start = clock_seconds(), told = start;
    int64_t n, done = 0;
    for (int64_t at = 1; at <= g->steps; at++) {
        const int64_t *samples = loader_step(&g->loader, at, &n);
        packing_fill(p, g->loader.data, samples, n, g->session->tokens_per_micro_batch);
        for (int64_t i = 0; i < p->n; i++) TRY(run_micro_batch(g, step, i, sum, err));
        done += n;
        tell(g, done, start, &told);
    }
    return MIL_OK;
}

enum mil_status gradients_add(struct gradients *g, const struct delta *deltas, size_t n,
                              float *const *out, struct mil_error *err) {
    struct step *step = NULL;
    double start = clock_seconds(), sum = 0;
    enum mil_status st;
    log_info("gradient of %zu weights over %lld samples (%lld tokens, %lld supervised)", n,
             (long long)g->samples, (long long)g->tokens, (long long)g->rows);
    for (size_t i = 0; i < n; i++) TRY_GOTO(attach(g, &deltas[i], out[i], err));
    TRY_GOTO(step_new(g->model, &g->options, &step, err));
    TRY_GOTO(run_steps(g, step, &sum, err));
    for (size_t i = 0; i < n; i++) TRY_GOTO(bring(g, &deltas[i], out[i], err));
    log_info("gradient: %.1f s, mean loss %.4f", clock_seconds() - start, sum / (double)g->rows);
fail:
    step_free(&step);
    for (size_t i = 0; i < n; i++) detach(g, &deltas[i]);
    return st;
}
