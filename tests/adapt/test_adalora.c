/* SPDX-License-Identifier: Apache-2.0 */
/* test_adalora.c - AdaLoRA's start, gradients, penalty, importance, budget and masks in f64.
 *
 * Gradients by central differences.  The data's loss is linear in each of P, Lambda and Q: only rounding remains, 1e-16
 * * 1e2 / 1e-3 = 1e-11, and 1e-9 is allowed.  The penalty is smooth away from orthonormality, of order 1 with third
 * derivatives of order 10: h^2 / 6 * 10 = 2e-10 at h = 1e-5, rounding 1e-16 * 10 / 1e-5 = 1e-10; 1e-8 is allowed.
 *
 * Importance, budget and masks are compared with a transcription of algorithm 1 of the paper, equations 8 to 12, that
 * keeps lists and sorts them by selection; sums in another order err by 1e-15 of positive terms, 1e-12 is allowed. */
#include "apply.h"
#include "fixture.h"

#include "adapt/adalora.h"
#include "adapt/delta.h"
#include "adapt/orthogonality.h"
#include "core/threads.h"

enum { TOKENS = 5, STEPS = 14 };

/* A model of nothing but its configuration, with an adapter attached. */
struct rig {
    struct checkpoint *base;
    struct backend *backend;
    struct model model;
    struct adapter *adapter;
    struct adapter_runtime *rt;
};

static void rig_init(struct rig *g, enum dtype compute, double dropout,
                     const struct adalora_options *schedule) {
    memset(g, 0, sizeof *g);
    struct adapter_options o = options_of("adalora", 4);
    o.dropout = dropout;
    o.alpha = 9; /* s = 1.5 of init_r 6 */
    o.adalora = *schedule;
    g->base = open_base();
    assert_ok(backend_open("cpu", compute, &g->backend, &err));
    g->model = (struct model){.config = g->base->config, .backend = g->backend};
    g->model.layers = mem_calloc(MEM_OTHER, 2, sizeof *g->model.layers);
    assert_ok(adapter_init(g->base, &o, NULL, NULL, &g->adapter, &err));
    assert_ok(adapter_attach(g->adapter, &g->model, true, &g->rt, &err));
    assert_int_equal(g->adapter->deltas[0].r, 6);
}

static void rig_release(struct rig *g) {
    adapter_detach(&g->rt);
    adapter_free(&g->adapter);
    mem_free(g->model.layers);
    backend_free(&g->backend);
    checkpoint_free(&g->base);
}

static const struct param *find_param(struct rig *g, const char *name) {
    struct trainable *t = adapter_trainable(g->rt);
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->params[i].name, name) == 0) return &t->params[i];
    fail_msg("no parameter %s", name);
    return NULL;
}

static int64_t count_of(struct tensor t) {
    return t.rows * t.cols;
}

static void fill(struct tensor t, double size, uint32_t stream) {
    for (int64_t i = 0; i < count_of(t); i++) ((double *)t.data)[i] = size * normal(stream, i);
}

static void zero_gradients(struct rig *g) {
    struct trainable *t = adapter_trainable(g->rt);
    for (size_t i = 0; i < t->n; i++) be_zero(backend_stream(g->backend), t->params[i].grad);
}

/* ---- the start ---- */

static void starts_as_the_authors_code(void **state) {
    (void)state;
    struct rig g;
    rig_init(&g, DT_F32, 0, &(struct adalora_options){.tinit = -1, .tfinal = -1});
    for (size_t k = 0; k < g.adapter->n; k++) {
        const struct delta *d = &g.adapter->deltas[k];
        uint32_t stream = rng_stream(RNG_INIT, (uint32_t)(d->layer * MODULES + d->module));
        double q = 0, p = 0;
        for (int64_t i = 0; i < d->r * d->n; i++) {
            assert_true(d->a0[i] == (float)(0.02 * rng_normal(42, stream, 0, (uint64_t)i)));
            assert_true(d->da[i] == 0);
            q += (double)d->a0[i] * d->a0[i] / (double)(d->r * d->n);
        }
        for (int64_t i = 0; i < d->m * d->r; i++) {
            assert_true(d->db[i] == (float)(0.02 * rng_normal(42, stream, 1, (uint64_t)i)));
            p += (double)d->db[i] * d->db[i] / (double)(d->m * d->r);
        }
        /* a variance of N draws errs by sqrt(2 / N): 4 of that, N >= 96 */
        assert_true(fabs(q / 4e-4 - 1) < 0.6 && fabs(p / 4e-4 - 1) < 0.6);
        for (int64_t j = 0; j < d->r; j++) assert_true(d->e[j] == 0 && d->pruned[j] == 0);
        assert_true(fabs(d->alpha / (double)d->r - 9 / (6 + 1e-5)) < 1e-12);
        assert_int_equal(adapter_module_rank(g.adapter, k), 6);
    }
    rig_release(&g);
}

/* ---- gradients of the data's loss ---- */

struct problem {
    struct rig *g;
    const struct linear_adapter *linear;
    struct arena step, call;
    struct adapter_saved saved;
    struct adapter_context ctx;
    uint64_t row_key[TOKENS];
    double x[TOKENS * 48], c[TOKENS * 32], y[TOKENS * 32], dx[TOKENS * 48];
};

/* layers.1.mlp.down_proj: 32 x 48 */
static void problem_init(struct problem *p, struct rig *g) {
    memset(p, 0, sizeof *p);
    p->g = g;
    p->linear = g->model.layers[1].linear[MODULE_DOWN].adapter;
    assert_ok(arena_init(&p->step, MEM_STEP, 1 << 16, &err));
    assert_ok(arena_init(&p->call, MEM_SCRATCH, 1 << 18, &err));
    p->linear->ops->layout(p->linear, &p->step, &p->call, TOKENS, &p->saved);
    arena_reset(&p->call);
    for (int i = 0; i < TOKENS; i++) p->row_key[i] = 1000 + 17 * (uint64_t)i;
    for (int i = 0; i < TOKENS * 48; i++) p->x[i] = normal(71, i);
    for (int i = 0; i < TOKENS * 32; i++) p->c[i] = normal(72, i);
    p->ctx = (struct adapter_context){.stream = backend_stream(g->backend),
                                      .call = &p->call,
                                      .training = true,
                                      .seed = 9,
                                      .step = 3,
                                      .row_key = p->row_key};
}

static void problem_release(struct problem *p) {
    arena_release(&p->step);
    arena_release(&p->call);
}

/* sum c y */
static double loss(struct problem *p) {
    double sum = 0;
    memset(p->y, 0, sizeof p->y);
    apply_forward(p->linear, &p->ctx, tensor_of(p->x, DT_F64, TOKENS, 48),
                  tensor_of(p->y, DT_F64, TOKENS, 32), &p->saved);
    for (int i = 0; i < TOKENS * 32; i++) sum += p->c[i] * p->y[i];
    return sum;
}

static void check_array(struct problem *p, double *value, const double *grad, int64_t n,
                        const char *what) {
    struct trainable *t = adapter_trainable(p->g->rt);
    double h = 1e-3, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double keep = value[i], f[2];
        for (int k = 0; k < 2; k++) {
            value[i] = keep + (k ? h : -h);
            t->refresh(t->owner, p->ctx.stream);
            f[k] = loss(p);
        }
        value[i] = keep;
        double want = (f[1] - f[0]) / (2 * h);
        if (!(fabs(grad[i] - want) <= 1e-9 * (1 + fabs(want))))
            fail_msg("%s[%lld]: %.12g, finite difference %.12g", what, (long long)i, grad[i], want);
        largest = fmax(largest, fabs(want));
    }
    t->refresh(t->owner, p->ctx.stream);
    assert_true(largest > 0.01);
}

static void check_gradients(double dropout) {
    struct rig g;
    struct problem p;
    double penalty;
    rig_init(&g, DT_F64, dropout, &(struct adalora_options){.tinit = -1, .tfinal = -1});
    g.adapter->options.adalora.orth_reg_weight = 0;
    problem_init(&p, &g);
    const struct param *q = find_param(&g, "model.layers.1.mlp.down_proj.delta_A"),
                       *b = find_param(&g, "model.layers.1.mlp.down_proj.delta_B"),
                       *e = find_param(&g, "model.layers.1.mlp.down_proj.lambda");
    struct trainable *t = adapter_trainable(g.rt);
    fill(q->value, 0.1, 1);
    fill(b->value, 0.3, 2);
    fill(e->value, 1, 3);
    ((double *)e->value.data)[4] = 0; /* a pruned triplet */
    t->refresh(t->owner, p.ctx.stream);
    loss(&p);
    for (int pass = 0; pass < 2; pass++) /* micro-batches are summed before the rest is done */
        apply_backward(p.linear, &p.ctx, tensor_of(p.x, DT_F64, TOKENS, 48),
                       tensor_of(p.c, DT_F64, TOKENS, 32), tensor_of(p.dx, DT_F64, TOKENS, 48),
                       &p.saved);
    assert_ok(adapter_gradients(g.rt, &penalty, &err));
    assert_true(penalty == 0);
    const struct param *all[] = {q, b, e};
    for (int k = 0; k < 3; k++)
        for (int64_t i = 0; i < count_of(all[k]->grad); i++) ((double *)all[k]->grad.data)[i] /= 2;
    for (int i = 0; i < TOKENS * 48; i++) p.dx[i] /= 2;
    check_array(&p, p.x, p.dx, TOKENS * 48, "dx");
    check_array(&p, q->value.data, q->grad.data, count_of(q->grad), "grad Q");
    check_array(&p, b->value.data, b->grad.data, count_of(b->grad), "grad P");
    check_array(&p, e->value.data, e->grad.data, count_of(e->grad), "grad Lambda");
    problem_release(&p);
    rig_release(&g);
}

static void gradients_by_differences(void **state) {
    (void)state;
    check_gradients(0);
    check_gradients(0.4);
}

/* ---- penalty ---- */

/* || G - I ||_F of vectors v[k * step_k + i * step_i], literally. */
static double excess(const double *v, int64_t r, int64_t length, int64_t step_k, int64_t step_i) {
    double sum = 0;
    for (int64_t a = 0; a < r; a++)
        for (int64_t b = 0; b < r; b++) {
            double dot = a == b ? -1 : 0;
            for (int64_t i = 0; i < length; i++)
                dot += v[a * step_k + i * step_i] * v[b * step_k + i * step_i];
            sum += dot * dot;
        }
    return sqrt(sum);
}

static double naive_penalty(const struct rig *g, double weight) {
    double sum = 0;
    for (size_t k = 0; k < g->adapter->n; k++) {
        const struct delta *d = &g->adapter->deltas[k];
        const struct param *p = &adapter_trainable(g->rt)->params[3 * k];
        double *q = mem_alloc(MEM_OTHER, (size_t)(d->r * d->n), sizeof *q);
        for (int64_t i = 0; i < d->r * d->n; i++) q[i] = d->a0[i] + ((double *)p[0].value.data)[i];
        sum += excess(q, d->r, d->n, d->n, 1) + excess(p[1].value.data, d->r, d->m, 1, d->r);
        mem_free(q);
    }
    return weight * sum / (2 * (double)g->adapter->n);
}

static double penalty_of(struct rig *g) {
    double penalty;
    zero_gradients(g);
    assert_ok(adapter_gradients(g->rt, &penalty, &err));
    return penalty;
}

static void check_penalty_of(struct rig *g, const struct param *p) {
    int64_t n = count_of(p->grad);
    double h = 1e-5, largest = 0, *value = p->value.data;
    double *grad = mem_alloc(MEM_OTHER, (size_t)n, sizeof *grad);
    penalty_of(g);
    memcpy(grad, p->grad.data, (size_t)n * sizeof *grad);
    for (int64_t i = 0; i < n; i += 3) {
        double keep = value[i], f[2];
        for (int k = 0; k < 2; k++) {
            value[i] = keep + (k ? h : -h);
            f[k] = penalty_of(g);
        }
        value[i] = keep;
        double want = (f[1] - f[0]) / (2 * h);
        if (!(fabs(grad[i] - want) <= 1e-8))
            fail_msg("%s[%lld]: %.12g, finite difference %.12g", p->name, (long long)i, grad[i],
                     want);
        largest = fmax(largest, fabs(want));
    }
    assert_true(largest > 1e-3);
    mem_free(grad);
}

static void penalty_by_differences(void **state) {
    (void)state;
    struct rig g;
    rig_init(&g, DT_F64, 0,
             &(struct adalora_options){.tinit = -1, .tfinal = -1, .orth_reg_weight = 0.7});
    struct trainable *t = adapter_trainable(g.rt);
    for (size_t i = 0; i < t->n; i++) fill(t->params[i].value, 0.15, (uint32_t)(30 + i));
    assert_true(fabs(penalty_of(&g) - naive_penalty(&g, 0.7)) < 1e-13);
    check_penalty_of(&g, find_param(&g, "model.layers.0.self_attn.k_proj.delta_A"));
    check_penalty_of(&g, find_param(&g, "model.layers.1.mlp.down_proj.delta_A"));
    check_penalty_of(&g, find_param(&g, "model.layers.1.mlp.down_proj.delta_B"));
    const struct param *e = find_param(&g, "model.layers.1.mlp.down_proj.lambda");
    for (int j = 0; j < 6; j++) assert_true(((double *)e->grad.data)[j] == 0);
    rig_release(&g);
}

/* Longer than a tile, in f32: against the same in f64.  Each is rounded once on storing: 2^-24 of the gradient. */
static void penalty_over_tiles(void **state) {
    (void)state;
    enum { R = 5, N = 700 };
    static float x[R * N], gx[R * N];
    static double wide[R * N], gw[R * N];
    double *scratch = mem_alloc(MEM_OTHER, orthogonality_scratch(R), sizeof *scratch);
    for (int rows = 0; rows < 2; rows++) {
        for (int64_t i = 0; i < R * N; i++)
            wide[i] = x[i] = (float)(0.05 * normal(7, i)), gw[i] = gx[i] = (float)normal(8, i);
        int64_t a = rows ? R : N, b = rows ? N : R;
        struct orthogonality o = {.value = tensor_of(x, DT_F32, a, b),
                                  .grad = tensor_of(gx, DT_F32, a, b),
                                  .rows = rows,
                                  .length = N,
                                  .r = R};
        double narrow = orthogonality_add(&o, 0.5, scratch);
        o.value = tensor_of(wide, DT_F64, a, b), o.grad = tensor_of(gw, DT_F64, a, b);
        assert_true(orthogonality_add(&o, 0.5, scratch) == narrow);
        assert_true(fabs(narrow - excess(wide, R, N, rows ? N : 1, rows ? 1 : R)) < 1e-13);
        for (int64_t i = 0; i < R * N; i++)
            assert_true(fabs(gx[i] - gw[i]) <= 0x1p-24 * fabs(gw[i]));
        assert_true(narrow > 0.1);
    }
    mem_free(scratch);
}

/* Orthonormal vectors have no gradient, and no NaN. */
static void penalty_of_orthonormal_vectors(void **state) {
    (void)state;
    double x[3 * 8] = {0}, grad[3 * 8] = {0}, scratch[4096];
    assert_true(orthogonality_scratch(3) <= 4096);
    for (int k = 0; k < 3; k++) x[k * 8 + k + 2] = k == 1 ? -1 : 1;
    struct orthogonality o = {.value = tensor_of(x, DT_F64, 3, 8),
                              .grad = tensor_of(grad, DT_F64, 3, 8),
                              .rows = true,
                              .length = 8,
                              .r = 3};
    assert_true(orthogonality_add(&o, 1, scratch) == 0);
    for (int i = 0; i < 24; i++) assert_true(grad[i] == 0);
}

/* ---- the paper's algorithm, literally ---- */

struct list {
    double ipt[512], avg[512], unc[512];
};
struct paper {
    int64_t total, tinit, tfinal, delta_t, first, target;
    struct list *lists; /* one a parameter */
    bool masked[64];    /* by entry of Lambda, module by module */
};

static void paper_importance(struct list *l, const double *p, const double *base, const double *g,
                             int64_t n, double clip) {
    for (int64_t i = 0; i < n; i++) {
        l->ipt[i] = fabs((p[i] + (base ? base[i] : 0)) * g[i] * clip);
        l->avg[i] = 0.85 * l->avg[i] + (1 - 0.85) * l->ipt[i];
        l->unc[i] = 0.85 * l->unc[i] + (1 - 0.85) * fabs(l->ipt[i] - l->avg[i]);
    }
}

/* Score of triplet j of a module with lists of Q [r, n], P [m, r], e. */
static double paper_score(const struct list *l, int64_t m, int64_t n, int64_t r, int64_t j) {
    double q = 0, p = 0;
    for (int64_t i = 0; i < n; i++) q += l[0].avg[j * n + i] * l[0].unc[j * n + i];
    for (int64_t i = 0; i < m; i++) p += l[1].avg[i * r + j] * l[1].unc[i * r + j];
    return l[2].avg[j] * l[2].unc[j] + (q / (double)n + p / (double)m);
}

static int64_t paper_budget(const struct paper *a, int64_t t, bool *mask) {
    *mask = t % a->delta_t == 0 || t == a->total - a->tfinal;
    if (t <= a->tinit) {
        *mask = false;
        return a->first;
    }
    if (t > a->total - a->tfinal) {
        *mask = false; /* the last masks hold */
        return a->target;
    }
    double rest = 1 - (double)(t - a->tinit) / (double)(a->total - a->tfinal - a->tinit);
    return (int64_t)((double)(a->first - a->target) * pow(rest, 3) + (double)a->target);
}

/* The k smallest go, one at a time, and whatever equals the last of them. */
static void paper_mask(struct paper *a, const double *score, int64_t n, int64_t k) {
    double last = -1;
    memset(a->masked, 0, sizeof a->masked);
    for (; k > 0; k--) {
        int64_t least = -1;
        for (int64_t i = 0; i < n; i++)
            if (!a->masked[i] && (least < 0 || score[i] < score[least])) least = i;
        a->masked[least] = true;
        last = score[least];
    }
    for (int64_t i = 0; i < n; i++)
        if (score[i] == last) a->masked[i] = true;
}

static void check_schedule(const struct adalora_options *o, int64_t total) {
    struct adalora_schedule s = adalora_schedule_of(o, total);
    struct paper a = {.total = total,
                      .tinit = o->tinit,
                      .tfinal = o->tfinal,
                      .delta_t = o->delta_t,
                      .first = 6 * 37,
                      .target = 4 * 37};
    if (a.tinit < 0) a.tinit = total / 10;
    if (a.tfinal < 0) a.tfinal = total * 3 / 10;
    if (a.delta_t < 1) a.delta_t = total < 200 ? 1 : total / 100;
    int64_t before = a.first, masks = 0;
    for (int64_t t = 1; t <= total; t++) {
        bool due, mask;
        int64_t want = paper_budget(&a, t, &mask), have = adalora_budget(&s, t, 222, 148, &due);
        if (have != want || due != mask)
            fail_msg("step %lld of %lld: budget %lld, mask %d; the paper: %lld, %d", (long long)t,
                     (long long)total, (long long)have, due, (long long)want, mask);
        assert_true(have <= before);
        before = have;
        masks += due;
    }
    assert_true(masks > 0 && before == 148);
}

static void schedules(void **state) {
    (void)state;
    static const int64_t totals[] = {7, 10, 99, 100, 101, 1000, 2371};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++)
        check_schedule(&(struct adalora_options){.tinit = -1, .tfinal = -1}, totals[i]);
    check_schedule(&(struct adalora_options){.tinit = 0, .tfinal = 0, .delta_t = 1}, 20);
    check_schedule(&(struct adalora_options){.tinit = 5, .tfinal = 0, .delta_t = 7}, 33);
    check_schedule(&(struct adalora_options){.tinit = 5, .tfinal = 30, .delta_t = 50}, 100);
    check_schedule(&(struct adalora_options){.tinit = 9, .tfinal = 90, .delta_t = 1}, 100);
}

static void schedules_that_leave_nothing(void **state) {
    (void)state;
    struct adapter_options o = options_of("adalora", 4);
    o.adalora = (struct adalora_options){.tinit = 60, .tfinal = 40};
    assert_fails(adapter_check_schedule(&o, 100, &err), MIL_USAGE,
                 "tinit = 60 and step total - tfinal = 60 of 100");
    assert_ok(adapter_check_schedule(&o, 101, &err));
    o.adalora = (struct adalora_options){.tinit = 0, .tfinal = 0};
    assert_fails(adapter_check_schedule(&o, 1, &err), MIL_USAGE, "train for more steps");
    assert_ok(adapter_check_schedule(&o, 2, &err));
    o.adalora.init_r = 3;
    assert_fails(adapter_check_schedule(&o, 10, &err), MIL_USAGE, "at least 4");
    o.method = "lora";
    assert_ok(adapter_check_schedule(&o, 1, &err));
}

static void ties(void **state) {
    (void)state;
    static const double score[8] = {3, 1, 2, 2, 5, 2, 0, 9};
    static const int gone[9] = {8, 7, 6, 5, 5, 5, 2, 1, 0}; /* by budget 0 .. 8 */
    double sorted[8];
    bool pruned[8];
    for (int64_t budget = 0; budget <= 8; budget++) {
        struct paper a;
        int n = 0;
        adalora_choose(score, 8, budget, sorted, pruned);
        paper_mask(&a, score, 8, 8 - budget);
        for (int i = 0; i < 8; i++) {
            assert_true(pruned[i] == a.masked[i]);
            n += pruned[i];
        }
        assert_int_equal(n, gone[budget]);
    }
    adalora_choose(score, 8, 11, sorted, pruned);
    for (int i = 0; i < 8; i++) assert_false(pruned[i]);
}

/* One update with random values and gradients in place of the optimiser's, ours and the paper's. */
static void both_update(struct rig *g, struct paper *a, int64_t step) {
    struct trainable *t = adapter_trainable(g->rt);
    const struct adapter_update u = {step, a->total, 0.5};
    double score[64], e[64];
    int64_t n = 0;
    bool mask;
    for (size_t k = 0; k < t->n; k++) {
        /* an entry's size differs by column, so that scores are far apart */
        fill(t->params[k].value, 0.1 + 0.05 * (double)(k % 7),
             (uint32_t)(100 * step) + 2 * (uint32_t)k);
        fill(t->params[k].grad, 1, (uint32_t)(100 * step) + 2 * (uint32_t)k + 1);
    }
    for (size_t k = 0; k < t->n && step < a->total - a->tfinal; k++)
        paper_importance(&a->lists[k], t->params[k].value.data, t->params[k].base.data,
                         t->params[k].grad.data, count_of(t->params[k].value), 0.5);
    for (size_t i = 0; i < g->adapter->n; i++) {
        const struct delta *d = &g->adapter->deltas[i];
        for (int64_t j = 0; j < d->r; j++, n++) {
            score[n] = paper_score(&a->lists[3 * i], d->m, d->n, d->r, j);
            e[n] = ((double *)t->params[3 * i + 2].value.data)[j];
        }
    }
    int64_t budget = paper_budget(a, step, &mask);
    if (mask) paper_mask(a, score, n, a->first - budget);
    assert_ok(adapter_updated(g->rt, &u, &err));
    n = 0;
    for (size_t i = 0; i < g->adapter->n; i++)
        for (int64_t j = 0; j < g->adapter->deltas[i].r; j++, n++) {
            bool zero = a->masked[n] && (mask || step > a->total - a->tfinal);
            double have = ((double *)t->params[3 * i + 2].value.data)[j];
            assert_true(have == (zero ? 0 : e[n]));
            assert_true(g->adapter->deltas[i].pruned[j] == (a->masked[n] ? 1 : 0));
        }
}

static void check_averages(struct rig *g, const struct paper *a) {
    size_t n = adapter_state_count(g->rt);
    assert_int_equal(n, 6 * g->adapter->n);
    for (size_t i = 0; i < n; i++) {
        struct adapter_state s;
        const struct list *l = &a->lists[i / 2];
        adapter_state_at(g->rt, i, &s);
        assert_non_null(strstr(s.name, i % 2 ? ".uncertainty" : ".importance"));
        for (int64_t k = 0; k < count_of(s.tensor); k++) {
            double have = ((double *)s.tensor.data)[k], want = i % 2 ? l->unc[k] : l->avg[k];
            assert_true(fabs(have - want) <= 1e-12 * (1 + want));
        }
    }
}

static void masks_against_the_paper(int64_t tinit, int64_t tfinal, int64_t delta_t) {
    struct rig g;
    rig_init(&g, DT_F64, 0,
             &(struct adalora_options){.tinit = tinit, .tfinal = tfinal, .delta_t = delta_t});
    struct paper a = {.total = STEPS,
                      .tinit = tinit,
                      .tfinal = tfinal,
                      .delta_t = delta_t,
                      .first = 6 * (int64_t)g.adapter->n,
                      .target = 4 * (int64_t)g.adapter->n};
    a.lists = mem_calloc(MEM_OTHER, 3 * g.adapter->n, sizeof *a.lists);
    int64_t kept = 0;
    for (int64_t step = 1; step <= STEPS; step++) {
        both_update(&g, &a, step);
        if (step < STEPS - tfinal) check_averages(&g, &a);
    }
    for (size_t i = 0; i < g.adapter->n; i++) kept += adapter_module_rank(g.adapter, i);
    assert_int_equal(kept, a.target); /* no two of these scores are equal */
    mem_free(a.lists);
    rig_release(&g);
}

static void masks(void **state) {
    (void)state;
    masks_against_the_paper(3, 4, 1);
    masks_against_the_paper(0, 0, 1);
    masks_against_the_paper(2, 5, 4);
    masks_against_the_paper(2, 0, 50);
}

/* ---- the rest ---- */

/* What a pruned entry leaves in the function: nothing, and what was there before is not kept. */
static void a_pruned_module_is_silent(void **state) {
    (void)state;
    struct rig g;
    struct problem p;
    rig_init(&g, DT_F64, 0, &(struct adalora_options){.tinit = 0, .tfinal = 1, .delta_t = 1});
    problem_init(&p, &g);
    const struct param *e = find_param(&g, "model.layers.1.mlp.down_proj.lambda");
    struct trainable *t = adapter_trainable(g.rt);
    fill(e->value, 1, 3);
    t->refresh(t->owner, p.ctx.stream);
    assert_true(fabs(loss(&p)) > 1e-6);
    struct delta *d = &g.adapter->deltas[9];
    for (int j = 0; j < 6; j++) d->pruned[j] = 1;
    const struct adapter_update u = {STEPS, STEPS, 1};
    assert_ok(adapter_updated(g.rt, &u, &err));
    assert_true(loss(&p) == 0);
    assert_int_equal(adapter_module_rank(g.adapter, 9), 0);
    problem_release(&p);
    rig_release(&g);
}

/* The same bits on one thread and two, in f32. */
static void threads_do_not_matter(void **state) {
    (void)state;
    static float bits[2][512];
    double penalty[2];
    for (int c = 0; c < 2; c++) {
        struct rig g;
        threads_set(c + 1);
        rig_init(&g, DT_F32, 0,
                 &(struct adalora_options){.tinit = 0, .tfinal = 1, .orth_reg_weight = 0.5});
        const struct param *p = find_param(&g, "model.layers.1.mlp.down_proj.delta_A");
        penalty[c] = penalty_of(&g);
        memcpy(bits[c], p->grad.data, (size_t)count_of(p->grad) * sizeof(float));
        rig_release(&g);
    }
    threads_set(0);
    assert_true(penalty[0] == penalty[1] && penalty[0] > 0);
    assert_memory_equal(bits[0], bits[1], sizeof bits[0]);
}

/* The plan counts the averages: two numbers for each that trains. */
static void the_plan_counts_the_averages(void **state) {
    (void)state;
    struct rig g;
    struct plan with = {0}, without = {0};
    rig_init(&g, DT_F32, 0, &(struct adalora_options){.tinit = -1, .tfinal = -1});
    assert_ok(adapter_plan(&g.base->config, &g.adapter->options, true, DT_F32, &with, &err));
    assert_ok(adapter_plan(&g.base->config, &g.adapter->options, false, DT_F32, &without, &err));
    size_t elements = (size_t)adapter_elements(g.adapter),
           more = plan_bytes(&with, PLAN_SESSION) - plan_bytes(&without, PLAN_SESSION);
    /* gradients 4, averages 8 bytes an element; scratch of 3 tiles' worth a thread */
    size_t scratch = (size_t)threads_count() * (orthogonality_scratch(6) + 2048) * sizeof(double);
    assert_true(more >= 12 * elements + scratch);
    assert_true(more <= 12 * elements + scratch + 200 * MEM_ALIGN);
    plan_release(&with);
    plan_release(&without);
    rig_release(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_as_the_authors_code),
        cmocka_unit_test(gradients_by_differences),
        cmocka_unit_test(penalty_by_differences),
        cmocka_unit_test(penalty_over_tiles),
        cmocka_unit_test(penalty_of_orthonormal_vectors),
        cmocka_unit_test(schedules),
        cmocka_unit_test(schedules_that_leave_nothing),
        cmocka_unit_test(ties),
        cmocka_unit_test(masks),
        cmocka_unit_test(a_pruned_module_is_silent),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(the_plan_counts_the_averages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
