/* SPDX-License-Identifier: Apache-2.0 */
/* forgetting.c - D. Kalajdzievski, Scaling laws for forgetting when fine-tuning large language models (2024): the
 * cross-entropy between the base's next-token distribution p and the changed model's q, averaged over the positions
 * of a text,
 *     H(p, q) = - sum_v p_v log q_v = log sum_v exp(f_v) - sum_v p_v f_v,   f = logits of q less their largest
 * and H(p, p), the base's entropy, where nothing has changed.  H(p, q) - H(p, p) is the Kullback-Leibler divergence.
 *
 * Logits are the models' f32; exponentials and sums are f64, in the order of the vocabulary, then of the text.  The
 * same function makes the sums of p against p and of p against q, so that equal logits give equal bits.
 *
 * The text is cut into disjoint windows.  A call runs some whole windows, or a piece of a long one on top of its keys
 * and values; so there are never the logits of more than call_tokens tokens, of the base and of one subject.  The
 * adapters take turns on the one base model: attached, run, detached, call by call.  Detaching leaves the base as
 * it was, whatever an adapter changes (embeddings and head included), and costs as much as a few tokens do. */
#include "analysis/forgetting.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/threads.h"
#include "eval/report.h"

enum { CALL_TOKENS = 256, ROWS_WORK = 1 << 15 }; /* ROWS_WORK: exponentials that repay a thread */

/* ---- one row ---- */

static double largest(const float *x, int64_t n) {
    float most = x[0];
    for (int64_t i = 1; i < n; i++)
        if (x[i] > most) most = x[i];
    return most;
}

struct forgetting_moments forgetting_moments(const float *p, const float *q, int64_t n) {
    double p_max = largest(p, n), q_max = largest(q, n);
    struct forgetting_moments m = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        double e = exp((double)p[i] - p_max);
        m.sum += e;
        m.dot += e * ((double)q[i] - q_max);
    }
    return m;
}

/* From the moments of p with q, and of q with itself. */
static double cross_entropy(struct forgetting_moments pq, struct forgetting_moments qq) {
    return log(qq.sum) - pq.dot / pq.sum;
}

double forgetting_row(const float *p, const float *q, int64_t n) {
    return cross_entropy(forgetting_moments(p, q, n), forgetting_moments(q, q, n));
}

/* ---- the run ---- */

/* Sums of one subject over the tokens so far. */
struct sums {
    double loss, increase;
};
struct run {
    const struct forgetting_job *job;
    int64_t vocab, slots, call_tokens, total;
    struct infer **sessions; /* the base's, then the subjects' */
    float *base_logits, *logits;
    double *entropy, *loss; /* of the rows of the call */
    /* the present call */
    int32_t *slot;
    int64_t *past, *length;
    int64_t tokens, n_seqs;
    const int32_t *ids;
    /* what comes next: document, token in it, tokens of the present window that are done */
    int64_t document, at, in_window, done;
    double entropy_sum;
    struct sums *sums;
    struct meter meter;
};

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Fill the call.  Its ids lie back to back in the text, windows being disjoint and documents side by side. */
static void gather(struct run *r) {
    const struct corpus *text = r->job->text;
    r->ids = text->ids + text->begin[r->document] + r->at;
    r->tokens = r->n_seqs = 0;
    while (r->n_seqs < r->slots && r->done < r->total) {
        int64_t left = text->begin[r->document + 1] - text->begin[r->document] - r->at;
        if (left == 0) { /* the document is over, or it was empty */
            r->document++;
            r->at = r->in_window = 0;
            continue;
        }
        int64_t rest = smaller(smaller(r->job->window - r->in_window, left), r->total - r->done);
        int64_t room = r->call_tokens - r->tokens;
        if (rest > room && r->n_seqs > 0) break; /* only a window by itself is cut */
        int64_t n = smaller(rest, room);
        r->slot[r->n_seqs] = (int32_t)r->n_seqs;
        r->past[r->n_seqs] = r->in_window;
        r->length[r->n_seqs++] = n;
        r->tokens += n;
        r->done += n;
        r->at += n;
        r->in_window = (r->in_window + n) % r->job->window;
    }
}

static enum mil_status run_session(struct run *r, size_t i, float *logits, struct mil_error *err) {
    struct infer_call call = {.ids = r->ids,
                              .slot = r->slot,
                              .past = r->past,
                              .n = r->length,
                              .n_seqs = r->n_seqs,
                              .all_rows = true,
                              .logits = logits};
    return infer_run(r->sessions[i], &call, err);
}

static void base_rows(void *ctx, int64_t begin, int64_t end) {
    struct run *r = ctx;
    for (int64_t t = begin; t < end; t++) {
        const float *p = r->base_logits + t * r->vocab;
        struct forgetting_moments m = forgetting_moments(p, p, r->vocab);
        r->entropy[t] = cross_entropy(m, m);
    }
}

static void subject_rows(void *ctx, int64_t begin, int64_t end) {
    struct run *r = ctx;
    for (int64_t t = begin; t < end; t++)
        r->loss[t] =
            forgetting_row(r->base_logits + t * r->vocab, r->logits + t * r->vocab, r->vocab);
}

static enum mil_status check_finite(const struct run *r, const double *rows, const char *name,
                                    struct mil_error *err) {
    for (int64_t t = 0; t < r->tokens; t++)
        if (!isfinite(rows[t]))
            return error_set(err, MIL_NUMERIC,
                             "%s: the logits after token %lld of the text are not finite", name,
                             (long long)(r->done - r->tokens + t + 1));
    return MIL_OK;
}

static int64_t rows_grain(const struct run *r) {
    return ROWS_WORK / r->vocab + 1;
}

static enum mil_status run_base(struct run *r, struct mil_error *err) {
    TRY(run_session(r, 0, r->base_logits, err));
    parallel_for(r->tokens, rows_grain(r), base_rows, r);
    TRY(check_finite(r, r->entropy, "the base", err));
    for (int64_t t = 0; t < r->tokens; t++) r->entropy_sum += r->entropy[t];
    return MIL_OK;
}

static enum mil_status run_subject(struct run *r, size_t i, struct mil_error *err) {
    const struct forgetting_subject *s = &r->job->subjects[i];
    struct adapter_runtime *attached = NULL;
    if (s->adapter) TRY(adapter_attach(s->adapter, r->job->base, false, &attached, err));
    enum mil_status st = run_session(r, i + 1, r->logits, err);
    adapter_detach(&attached);
    TRY(st);
    parallel_for(r->tokens, rows_grain(r), subject_rows, r);
    TRY(check_finite(r, r->loss, s->name, err));
    for (int64_t t = 0; t < r->tokens; t++) {
        r->sums[i].loss += r->loss[t];
        r->sums[i].increase += r->loss[t] - r->entropy[t];
    }
    return MIL_OK;
}

static enum mil_status run_calls(struct run *r, struct mil_error *err) {
    while (r->done < r->total) {
        gather(r);
        TRY(run_base(r, err));
        for (size_t i = 0; i < r->job->n; i++) TRY(run_subject(r, i, err));
        double value = r->sums[0].loss / (double)r->done;
        bool last = r->done == r->total;
        if (!meter_report(&r->meter, r->done, value, r->done, last) && !last)
            return error_set(err, MIL_INTERRUPTED, "stopped on request after %lld of %lld tokens",
                             (long long)r->done, (long long)r->total);
    }
    return MIL_OK;
}

/* ---- memory ---- */

/* A session's scratch is sized by what is attached when it is made. */
static enum mil_status make_session(struct run *r, size_t i, struct mil_error *err) {
    const struct forgetting_subject *s = i > 0 ? &r->job->subjects[i - 1] : NULL;
    struct model *m = s && !s->adapter ? s->model : r->job->base;
    struct adapter_runtime *attached = NULL;
    struct infer_options o = {.slots = r->slots,
                              .length = smaller(r->job->window, r->total),
                              .max_tokens = r->call_tokens,
                              .max_rows = r->call_tokens};
    if (s && s->adapter) TRY(adapter_attach(s->adapter, m, false, &attached, err));
    enum mil_status st = infer_new(m, &o, &r->sessions[i], err);
    adapter_detach(&attached);
    return st;
}

static enum mil_status make_buffers(struct run *r, struct mil_error *err) {
    size_t rows = (size_t)r->call_tokens, slots = (size_t)r->slots, logits;
    if (!checked_mul(rows, (size_t)r->vocab, &logits)) return error_nomem(err, UINT64_MAX);
    r->base_logits = mem_alloc(MEM_SCRATCH, logits, sizeof *r->base_logits);
    r->logits = mem_alloc(MEM_SCRATCH, logits, sizeof *r->logits);
    r->entropy = mem_alloc(MEM_SCRATCH, rows, sizeof *r->entropy);
    r->loss = mem_alloc(MEM_SCRATCH, rows, sizeof *r->loss);
    r->slot = mem_alloc(MEM_SCRATCH, slots, sizeof *r->slot);
    r->past = mem_alloc(MEM_SCRATCH, slots, sizeof *r->past);
    r->length = mem_alloc(MEM_SCRATCH, slots, sizeof *r->length);
    r->sums = mem_calloc(MEM_SCRATCH, r->job->n, sizeof *r->sums);
    r->sessions = mem_calloc(MEM_SCRATCH, r->job->n + 1, sizeof(struct infer *));
    if (!r->base_logits || !r->logits || !r->entropy || !r->loss || !r->slot || !r->past ||
        !r->length || !r->sums || !r->sessions)
        return error_nomem(err, 2 * logits * sizeof *r->logits);
    for (size_t i = 0; i <= r->job->n; i++) TRY(make_session(r, i, err));
    return MIL_OK;
}

static void release(struct run *r) {
    for (size_t i = 0; r->sessions && i <= r->job->n; i++) infer_free(&r->sessions[i]);
    mem_free(r->sessions);
    mem_free(r->sums);
    mem_free(r->length);
    mem_free(r->past);
    mem_free(r->slot);
    mem_free(r->loss);
    mem_free(r->entropy);
    mem_free(r->logits);
    mem_free(r->base_logits);
}

static void conclude(const struct run *r, struct mil_forgetting *out) {
    double n = (double)r->total;
    for (size_t i = 0; i < r->job->n; i++)
        out[i] = (struct mil_forgetting){.forgetting_loss = r->sums[i].loss / n,
                                         .base_entropy = r->entropy_sum / n,
                                         .divergence = r->sums[i].increase / n,
                                         .tokens = r->total,
                                         .window = r->job->window};
}

enum mil_status forgetting_measure(const struct forgetting_job *job, mil_eval_progress_fn fn,
                                   void *ctx, struct mil_forgetting *out, struct mil_error *err) {
    int64_t all = job->text->n_tokens;
    struct run r = {.job = job, .vocab = job->base->config.vocab};
    REQUIRE(job->n > 0 && all > 0 && job->window > 0);
    r.total = job->max_tokens > 0 ? smaller(job->max_tokens, all) : all;
    r.call_tokens = smaller(job->call_tokens > 0 ? job->call_tokens : CALL_TOKENS, r.total);
    r.slots = job->window < r.call_tokens ? r.call_tokens / job->window : 1;
    enum mil_status st = make_buffers(&r, err);
    if (st == MIL_OK) {
        meter_start(&r.meter, fn, ctx, r.total);
        st = run_calls(&r, err);
    }
    if (st == MIL_OK) conclude(&r, out);
    release(&r);
    return st;
}
