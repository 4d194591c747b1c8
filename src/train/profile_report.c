/* SPDX-License-Identifier: Apache-2.0 */
/* profile_report.c - what `--profile` tells of a run: the rows of core/profile.h over the steps, and
 * the rate of the machine's products to hold them against.
 *
 * That rate is measured on the run's own backend by the two largest products of a layer,
 *     [T, C] x [C, F]    and    [T, F] x [F, C],    W as it is stored, rounded to the compute type,
 * each for a tenth of a second, best call: what a step of nothing but products would reach. */
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/profile.h"
#include "core/rng.h"
#include "core/threads.h"
#include "io/file.h"
#include "io/json.h"
#include "train/run.h"

enum { ROWS_LEAST = 128, ROWS_MOST = 1024, CALLS_MOST = 1000 };
static const double call_flops = 2e10, seconds_each = 0.12;

/* ---- the machine's rate ---- */

/* Operands that are neither zero nor of one exponent: some machines multiply zeros faster. */
static void fill(struct stream *s, struct tensor wide, struct tensor out) {
    float *x = wide.data;
    for (int64_t i = 0; i < wide.cols; i++)
        x[i] = (float)(rng_uniform(1, rng_stream(RNG_TEST, 0), 0, (uint64_t)i) - 0.5);
    for (int64_t row = 0; row < out.rows; row++) {
        struct tensor to = tensor_rows(out, row, 1), from = tensor_cols(wide, 0, out.cols);
        be_copy(s, to, from);
    }
}

/* Seconds of the fastest call. */
static double fastest(struct stream *s, struct tensor x, struct tensor w, struct tensor y,
                      struct mil_error *err, enum mil_status *st) {
    double best = INFINITY, begun = clock_seconds();
    for (int i = 0; i < CALLS_MOST && *st == MIL_OK; i++) {
        double from = clock_seconds();
        be_matmul(s, MATMUL_TRANS_B, 1.0, x, w, 0.0, y);
        *st = stream_sync(s, err);
        best = fmin(best, clock_seconds() - from);
        if (i > 2 && clock_seconds() - begun > seconds_each) break;
    }
    return best;
}

struct trial {
    int64_t t, n, k; /* y[t, n] = x[t, k] W[n, k]^T */
};

static enum mil_status try_product(struct run *r, const struct trial *p, struct mil_error *err) {
    struct backend *b = r->backend;
    struct stream *s = backend_stream(b);
    enum dtype act = backend_act(b), real = backend_real(b);
    int64_t longest = p->n > p->k ? p->n : p->k, elements = (p->t + p->n) * p->k + p->t * p->n;
    struct arena a;
    TRY(arena_init(&a, MEM_OTHER,
                   (size_t)elements * dtype_size(act) + 4 * MEM_ALIGN +
                       (size_t)longest * dtype_size(real),
                   err));
    struct tensor x = tensor_take(&a, act, p->t, p->k, "x"),
                  w = tensor_take(&a, act, p->n, p->k, "w");
    struct tensor y = tensor_take(&a, act, p->t, p->n, "y");
    struct tensor wide = tensor_take(&a, real, 1, longest, "values");
    enum mil_status st = MIL_OK;
    fill(s, wide, x);
    fill(s, wide, w);
    double seconds = fastest(s, x, w, y, err, &st);
    double rate = 2.0 * (double)p->t * (double)p->n * (double)p->k / seconds;
    arena_release(&a);
    if (st != MIL_OK || rate <= r->profile.product_rate) return st;
    r->profile.product_rate = rate;
    snprintf(r->profile.product, sizeof r->profile.product, "%s [%lld, %lld] x [%lld, %lld]",
             dtype_name(act), (long long)p->t, (long long)p->k, (long long)p->k, (long long)p->n);
    return MIL_OK;
}

enum mil_status run_profile_start(struct run *r, struct mil_error *err) {
    const struct model_config *c = &r->session.base->config;
    if (!r->on.on_profile) return MIL_OK;
    /* Short enough to be repeated, also with a large model's weights. */
    int64_t t = (int64_t)(call_flops / (2.0 * (double)c->width * (double)c->ffn));
    if (t > ROWS_MOST) t = ROWS_MOST;
    if (t > r->session.max_tokens) t = r->session.max_tokens;
    t = t < ROWS_LEAST ? ROWS_LEAST : t / 32 * 32;
    r->profile = (struct run_profile){0};
    profile_reset(c->vocab, r->session.method->adapter ? r->config.r : 0);
    TRY(try_product(r, &(struct trial){t, c->ffn, c->width}, err));
    return try_product(r, &(struct trial){t, c->width, c->ffn}, err);
}

/* ---- the report ---- */

void run_profile_step(struct run *r, int64_t tokens, double seconds) {
    r->profile.steps++;
    r->profile.tokens += tokens;
    r->profile.seconds += seconds;
}

static size_t collect(struct mil_profile_row *rows, struct mil_train_profile *out) {
    struct profile_row all[PROFILE_ROWS_MOST];
    size_t n = profile_rows(all);
    out->outside = out->seconds;
    for (size_t i = 0; i < n; i++) {
        const struct profile_row *p = &all[i];
        bool flops = profile_op_unit(p->op) == PROFILE_FLOPS;
        rows[i] = (struct mil_profile_row){.phase = profile_phase_name(p->phase),
                                           .operation = profile_op_name(p->op),
                                           .calls = p->calls,
                                           .seconds = 1e-9 * (double)p->ns,
                                           .work = p->work,
                                           .work_is_flops = flops};
        out->outside -= rows[i].seconds;
        if (flops) out->flops += p->work;
    }
    return n;
}

static json_t *row_json(const struct mil_profile_row *row, double all) {
    return json_pack("{ss ss sI sf sf sf ss}", "phase", row->phase, "operation", row->operation,
                     "calls", (json_int_t)row->calls, "seconds", row->seconds, "share",
                     row->seconds / all, "work", row->work, "unit",
                     row->work_is_flops ? "flop" : "byte");
}

static enum mil_status write(const struct run *r, const struct mil_train_profile *p,
                             struct mil_error *err) {
    char path[PATH_CAP];
    json_t *rows = json_array();
    for (size_t i = 0; i < p->n; i++)
        json_array_append_new(rows, row_json(&p->rows[i], p->seconds));
    double rate = p->flops / p->seconds;
    json_t *root =
        json_pack("{sI sI sI sf sf sf sf sf sf ss so}", "steps", (json_int_t)p->steps, "tokens",
                  (json_int_t)p->tokens, "threads", (json_int_t)threads_count(), "seconds",
                  p->seconds, "outside_seconds", p->outside, "flops", p->flops, "flops_per_second",
                  rate, "product_flops_per_second", p->product_rate, "share_of_product_rate",
                  rate / p->product_rate, "product", p->product, "rows", rows);
    if (!root) return error_nomem(err, 0);
    enum mil_status st = path_join(path, r->config.output_dir, "profile.json", err);
    if (st == MIL_OK) st = json_write_file(path, root, err);
    json_decref(root);
    return st;
}

enum mil_status run_profile_finish(struct run *r, struct mil_error *err) {
    struct mil_profile_row rows[PROFILE_ROWS_MOST];
    if (!r->on.on_profile || r->profile.steps == 0) return MIL_OK;
    struct mil_train_profile p = {.rows = rows,
                                  .steps = r->profile.steps,
                                  .tokens = r->profile.tokens,
                                  .seconds = r->profile.seconds,
                                  .product_rate = r->profile.product_rate,
                                  .product = r->profile.product};
    p.n = collect(rows, &p);
    r->on.on_profile(r->on.ctx, &p);
    return write(r, &p, err);
}
