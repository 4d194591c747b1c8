/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - forward, loss and backward of one micro-batch, in memory planned beforehand.
 *
 * Two arenas.  `step` holds what lives from forward to backward:
 *     [ x_0 .. x_L | losses | dx | layer 0 | layer 1 | ... ]            (recompute: one shared
 * layer) `call` holds the scratch of the phase that runs - forward, head, backward - and above it
 * the scratch of one adapter call.  Both are laid out anew for each micro-batch by the functions
 * that sized them, with the same or smaller sizes.
 *
 * With recompute a layer's forward is run again right before its backward, from its kept input: the
 * same operations on the same values (dropout masks are recomputable), hence the same bits. */
#include <inttypes.h>

#include "model/head.h"
#include "model/internal.h"
#include "model/layer.h"

enum phase { PHASE_FORWARD, PHASE_HEAD, PHASE_BACKWARD, PHASES };

struct step {
    struct model *m;
    struct step_options o;
    struct arena step, call, shared; /* shared: within step, the one layer of recompute */
    struct tensor *x;                /* config.layers + 1 */
    struct layer_saved *layers;      /* one with recompute, else config.layers */
    int64_t bound;                   /* recompute: the layer whose activations `shared` holds */
    struct tensor loss, dx;
    struct head_scratch head;
    struct pass pass;
    void *host_loss; /* max_rows of real */
};

/* ---- layout ---- */

static size_t shared_layer_bytes(const struct model *m, int64_t tokens) {
    struct arena call, layer;
    struct layer_saved ignored;
    arena_init_sizing(&call, NULL, PLAN_CALL);
    arena_init_sizing(&layer, NULL, PLAN_STEP);
    for (int64_t l = 0; l < m->config.layers; l++) {
        arena_reset(&layer);
        layer_layout(m, l, tokens, LAYER_REDONE, &layer, &call, &ignored);
    }
    return layer.peak;
}

/* Everything that lives from forward to backward, for this many tokens and supervised rows. */
static void step_layout(struct step *s, int64_t tokens, int64_t rows) {
    const struct model *m = s->m;
    enum dtype real = backend_real(m->backend);
    int64_t layers = m->config.layers, width = m->config.width;
    for (int64_t l = 0; l <= layers; l++)
        s->x[l] = tensor_take(&s->step, real, tokens, width, "layer %d input", (int)l);
    s->loss = tensor_take(&s->step, real, rows, 1, "losses");
    s->dx = tensor_take(&s->step, real, tokens, width, "gradient of the residual");
    if (s->o.recompute) {
        size_t bytes = shared_layer_bytes(m, tokens);
        s->shared = (struct arena){.cap = bytes};
        s->shared.base = arena_take(&s->step, bytes, "one layer (recomputed)");
        s->bound = -1;
        return;
    }
    struct arena call;
    arena_init_sizing(&call, NULL, PLAN_CALL);
    for (int64_t l = 0; l < layers; l++)
        layer_layout(m, l, tokens, LAYER_KEPT, &s->step, &call, &s->layers[l]);
}

static void phase_layout(struct step *s, enum phase phase, int64_t tokens, int64_t rows,
                         struct arena *a) {
    int64_t chunk = rows < s->o.head_chunk ? rows : s->o.head_chunk;
    if (phase == PHASE_HEAD) {
        head_layout(s->m, chunk, true, a, &s->head);
        return;
    }
    forward_scratch_layout(s->m, tokens, a, &s->pass.fwd);
    if (phase == PHASE_BACKWARD) backward_scratch_layout(s->m, tokens, a, &s->pass.bwd);
}

/* Bytes of call scratch: the largest phase, which goes into the plan. */
static size_t call_bytes(struct step *s, struct plan *plan) {
    size_t adapter = adapter_scratch_bytes(s->m, s->o.max_tokens), most = 0;
    enum phase largest = PHASE_FORWARD;
    struct arena a;
    for (int i = 0; i < PHASES; i++) {
        arena_init_sizing(&a, NULL, PLAN_CALL);
        phase_layout(s, (enum phase)i, s->o.max_tokens, s->o.max_rows, &a);
        size_t bytes = a.peak + (i == PHASE_HEAD ? 0 : adapter);
        if (bytes <= most) continue;
        most = bytes;
        largest = (enum phase)i;
    }
    arena_init_sizing(&a, plan, PLAN_CALL);
    phase_layout(s, largest, s->o.max_tokens, s->o.max_rows, &a);
    if (plan && largest != PHASE_HEAD && adapter > 0)
        plan_add(plan, PLAN_CALL, adapter, "adapter scratch");
    return most;
}

static size_t host_loss_bytes(const struct step *s) {
    return (size_t)s->o.max_rows * dtype_size(backend_real(s->m->backend));
}

/* Size both arenas (they are left in sizing mode); plan may be NULL. */
static void step_size(struct step *s, struct plan *plan, size_t *step_bytes, size_t *call) {
    arena_init_sizing(&s->step, plan, PLAN_STEP);
    step_layout(s, s->o.max_tokens, s->o.max_rows);
    *step_bytes = s->step.peak;
    *call = call_bytes(s, plan);
    if (plan) plan_add(plan, PLAN_STEP, host_loss_bytes(s), "losses on the host");
}

static enum mil_status frame_new(struct model *m, const struct step_options *o, struct step **out,
                                 struct mil_error *err) {
    REQUIRE(o->max_tokens > 0 && o->max_rows >= 0 && o->head_chunk > 0);
    size_t layers = (size_t)m->config.layers;
    struct step *s = mem_calloc(MEM_OTHER, 1, sizeof *s);
    if (!s) return error_nomem(err, sizeof *s);
    s->m = m;
    s->o = *o;
    s->x = mem_calloc(MEM_OTHER, layers + 1, sizeof *s->x);
    s->layers = mem_calloc(MEM_OTHER, o->recompute ? 1 : layers, sizeof *s->layers);
    *out = s;
    if (s->x && s->layers) return MIL_OK;
    step_free(out);
    return error_nomem(err, layers * sizeof *s->layers);
}

void step_plan(const struct model *m, const struct step_options *o, struct plan *plan) {
    struct step *s = NULL;
    size_t step_bytes, call;
    /* Sizing does not write to the model. */
    enum mil_status st = frame_new((struct model *)(uintptr_t)m, o, &s, NULL);
    if (st != MIL_OK) {
        plan->status = st;
        return;
    }
    step_size(s, plan, &step_bytes, &call);
    step_free(&s);
}

enum mil_status step_new(struct model *m, const struct step_options *o, struct step **out,
                         struct mil_error *err) {
    enum mil_status st;
    struct step *s = NULL;
    size_t step_bytes, call;
    TRY(frame_new(m, o, &s, err));
    step_size(s, NULL, &step_bytes, &call);
    TRY_GOTO(backend_arena_init(&s->step, m->backend, MEM_STEP, step_bytes, err));
    TRY_GOTO(backend_arena_init(&s->call, m->backend, MEM_SCRATCH, call, err));
    s->host_loss = mem_alloc(MEM_STEP, host_loss_bytes(s), 1);
    if (!s->host_loss) TRY_GOTO(error_nomem(err, host_loss_bytes(s)));
    *out = s;
    return MIL_OK;
fail:
    step_free(&s);
    return st;
}

void step_free(struct step **s) {
    if (!*s) return;
    backend_arena_release(&(*s)->step, (*s)->m->backend);
    backend_arena_release(&(*s)->call, (*s)->m->backend);
    mem_free((*s)->host_loss);
    mem_free((*s)->layers);
    mem_free((*s)->x);
    mem_free(*s);
    *s = NULL;
}

/* ---- one micro-batch ---- */

static enum mil_status check_batch(const struct step *s, const struct batch *b,
                                   struct mil_error *err) {
    int64_t vocab = s->m->config.vocab, positions = s->m->rope.rows;
    REQUIRE(b->tokens >= 0 && b->tokens <= s->o.max_tokens);
    REQUIRE(b->n_rows >= 0 && b->n_rows <= s->o.max_rows);
    for (int64_t i = 0; i < b->tokens; i++) {
        if (b->ids && (b->ids[i] < 0 || b->ids[i] >= vocab))
            return error_set(err, MIL_INPUT,
                             "token id %d is outside the model's vocabulary of %" PRId64, b->ids[i],
                             vocab);
        if (b->position[i] < 0 || b->position[i] >= positions)
            return error_set(err, MIL_INPUT,
                             "a sequence reaches position %d; the model was opened for %" PRId64,
                             b->position[i], positions);
    }
    for (int64_t i = 0; i < b->n_rows; i++) {
        REQUIRE(b->row[i] >= (i > 0 ? b->row[i - 1] + 1 : 0) && b->row[i] < b->tokens);
        if (b->label[i] < 0 || b->label[i] >= vocab)
            return error_set(err, MIL_INPUT,
                             "label %d is outside the model's vocabulary of %" PRId64, b->label[i],
                             vocab);
    }
    return MIL_OK;
}

static void begin(struct step *s, const struct batch *b, bool training) {
    struct pass *p = &s->pass;
    struct stream *stream = backend_stream(s->m->backend);
    *p = (struct pass){.m = s->m,
                       .stream = stream,
                       .tokens = b->tokens,
                       .position = b->position,
                       .seqs = b->seqs,
                       .n_seqs = b->n_seqs,
                       .adapter = {.stream = stream,
                                   .call = &s->call,
                                   .training = training,
                                   .seed = b->seed,
                                   .step = b->step,
                                   .row_key = training ? b->row_key : NULL}};
    arena_reset(&s->step);
    step_layout(s, b->tokens, b->n_rows);
}

static void begin_phase(struct step *s, enum phase phase, const struct batch *b) {
    arena_reset(&s->call);
    phase_layout(s, phase, b->tokens, b->n_rows, &s->call);
}

/* Run a layer into its buffers; with recompute they are laid out for it first. */
static void run_layer(struct step *s, int64_t l) {
    if (s->o.recompute) {
        arena_reset(&s->shared);
        layer_layout(s->m, l, s->pass.tokens, LAYER_REDONE, &s->shared, &s->call, &s->layers[0]);
        s->bound = l;
    }
    layer_forward(&s->pass, l, s->x[l], s->x[l + 1], &s->layers[s->o.recompute ? 0 : l], NULL);
}

static void forward(struct step *s, const struct batch *b) {
    begin_phase(s, PHASE_FORWARD, b);
    if (b->ids)
        be_gather_rows(s->pass.stream, s->x[0], s->m->embed, b->ids);
    else
        be_copy(s->pass.stream, s->x[0], b->embeddings);
    for (int64_t l = 0; l < s->m->config.layers; l++) run_layer(s, l);
}

static void head(struct step *s, const struct batch *b, bool gradient) {
    struct tensor none = {0};
    begin_phase(s, PHASE_HEAD, b);
    if (gradient) be_zero(s->pass.stream, s->dx);
    head_loss(s->m, s->pass.stream, b, s->x[s->m->config.layers], s->loss, gradient ? s->dx : none,
              &s->head);
}

/* The lowest layer in which something trains; config.layers when nothing does. */
static int64_t lowest_trained(const struct model *m) {
    int64_t l = 0;
    while (l < m->config.layers && !layer_trains(m, l, MODULE_Q, MODULE_DOWN)) l++;
    return l;
}

static void backward(struct step *s, const struct batch *b) {
    struct model *m = s->m;
    bool input_trains = m->train_all || tensor_present(m->d_embed);
    int64_t lowest = input_trains ? 0 : lowest_trained(m);
    begin_phase(s, PHASE_BACKWARD, b);
    for (int64_t l = m->config.layers - 1; l >= lowest; l--) {
        if (s->o.recompute && s->bound != l) run_layer(s, l);
        layer_backward(&s->pass, l, s->x[l], s->dx, &s->layers[s->o.recompute ? 0 : l],
                       input_trains || l > lowest);
    }
    if (b->ids && tensor_present(m->d_embed))
        be_scatter_add_rows(s->pass.stream, m->d_embed, s->dx, b->ids);
}

/* Wait, fetch the losses, and sum them in row order in double. */
static enum mil_status collect(struct step *s, const struct batch *b, double *loss_sum,
                               float *row_loss, struct mil_error *err) {
    struct backend *be = s->m->backend;
    bool wide = backend_real(be) == DT_F64;
    TRY(stream_sync(s->pass.stream, err));
    size_t bytes = (size_t)b->n_rows * dtype_size(backend_real(be));
    if (bytes > 0) backend_download(be, s->host_loss, s->loss.data, bytes);
    *loss_sum = 0;
    for (int64_t i = 0; i < b->n_rows; i++) {
        double v = wide ? ((double *)s->host_loss)[i] : (double)((float *)s->host_loss)[i];
        *loss_sum += v;
        if (row_loss) row_loss[i] = (float)v;
    }
    return MIL_OK;
}

enum mil_status step_run(struct step *s, const struct batch *b, double *loss_sum,
                         struct mil_error *err) {
    TRY(check_batch(s, b, err));
    begin(s, b, true);
    if (b->n_rows > 0) {
        forward(s, b);
        head(s, b, true);
        backward(s, b);
    }
    return collect(s, b, loss_sum, NULL, err);
}

enum mil_status step_loss(struct step *s, const struct batch *b, double *loss_sum, float *row_loss,
                          struct mil_error *err) {
    TRY(check_batch(s, b, err));
    begin(s, b, false);
    if (b->n_rows > 0) {
        forward(s, b);
        head(s, b, false);
    }
    return collect(s, b, loss_sum, row_loss, err);
}
