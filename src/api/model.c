/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - opening a model with its tokenizer and adapter, and logits of a sequence.
 *
 * Logits are computed in chunks of LOGIT_ROWS tokens on a key-value cache, so that the scratch of a
 * call is bounded whatever the length of the sequence. */
#include "milora/model.h"

#include "api/handle.h"
#include "core/log.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/npy.h"

enum { DEFAULT_POSITIONS = 8192, LOGIT_ROWS = 256 };

static enum mil_status attach(struct mil_model *m, const char *dir, struct mil_error *err) {
    TRY(adapter_load(dir, m->checkpoint, &m->adapter, err));
    return adapter_attach(m->adapter, m->model, false, &m->runtime, err);
}

static bool has_file(const char *dir, const char *name) {
    char path[PATH_CAP];
    return path_join(path, dir, name, NULL) == MIL_OK && path_exists(path);
}

/* A model without tokenizer files runs on ids; one with broken files is an error. */
static enum mil_status open_tokenizer(struct mil_model *m, struct mil_error *err) {
    const struct checkpoint *c = m->checkpoint;
    bool present =
        c->is_gguf ? gguf_find(c->gguf, "tokenizer.ggml.model") != NULL
                   : has_file(c->path, "tokenizer.json") || has_file(c->path, "tokenizer.model");
    if (present) return checkpoint_tokenizer(c, &m->tokenizer, err);
    log_debug("%s: no tokenizer there, only token ids can be used", c->path);
    return MIL_OK;
}

static int64_t positions_of(const struct mil_model_options *o, const struct model_config *c) {
    if (o->max_positions > 0) return o->max_positions;
    return c->max_positions < DEFAULT_POSITIONS ? c->max_positions : DEFAULT_POSITIONS;
}

enum mil_status mil_model_open(const struct mil_model_options *options, mil_model **out,
                               struct mil_error *err) {
    *out = NULL;
    enum mil_status st = MIL_OK;
    if (options->max_positions < 0)
        return error_set(err, MIL_USAGE, "max_positions %lld: must be positive",
                         (long long)options->max_positions);
    struct mil_model *m = mem_calloc(MEM_OTHER, 1, sizeof *m);
    if (!m) return error_nomem(err, sizeof *m);
    enum dtype act = options->compute == MIL_F32 ? DT_F32 : DT_BF16;
    TRY_GOTO(checkpoint_open(options->path, CHECKPOINT_WEIGHTS, &m->checkpoint, err));
    m->positions = positions_of(options, &m->checkpoint->config);
    TRY_GOTO(backend_open("cpu", act, &m->backend, err));
    TRY_GOTO(model_new(m->checkpoint, m->backend, m->positions, &m->model, err));
    TRY_GOTO(open_tokenizer(m, err));
    if (options->adapter) TRY_GOTO(attach(m, options->adapter, err));
    *out = m;
    return MIL_OK;
fail:
    mil_model_free(&m);
    return st;
}

void mil_model_free(mil_model **model) {
    struct mil_model *m = *model;
    if (!m) return;
    adapter_detach(&m->runtime);
    adapter_free(&m->adapter);
    tokenizer_free(&m->tokenizer);
    model_free(&m->model);
    backend_free(&m->backend);
    checkpoint_free(&m->checkpoint);
    mem_free(m);
    *model = NULL;
}

int32_t mil_model_vocab(const mil_model *model) {
    return (int32_t)model->model->config.vocab;
}

int64_t mil_model_positions(const mil_model *model) {
    return model->positions;
}

const char *mil_model_backend(const mil_model *model) {
    return backend_describe(model->backend);
}

/* ---- logits */

static enum mil_status check_ids(const mil_model *m, const int32_t *ids, size_t n,
                                 struct mil_error *err) {
    if (n == 0) return error_set(err, MIL_USAGE, "no token ids: give at least one");
    if (n > (size_t)m->positions)
        return error_set(err, MIL_USAGE, "%zu tokens: the model was opened for %lld", n,
                         (long long)m->positions);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->model->config.vocab)
            return error_set(err, MIL_USAGE, "token %zu has id %d: the vocabulary has 0 to %lld", i,
                             ids[i], (long long)m->model->config.vocab - 1);
    return MIL_OK;
}

enum mil_status mil_logits(mil_model *model, const int32_t *ids, size_t n, float *out,
                           struct mil_error *err) {
    TRY(check_ids(model, ids, n, err));
    int64_t rows = n < LOGIT_ROWS ? (int64_t)n : LOGIT_ROWS;
    struct infer_options options = {
        .slots = 1, .length = (int64_t)n, .max_tokens = rows, .max_rows = rows};
    struct infer *infer = NULL;
    TRY(infer_new(model->model, &options, &infer, err));
    enum mil_status st = MIL_OK;
    const int32_t slot = 0;
    for (int64_t done = 0; st == MIL_OK && done < (int64_t)n;) {
        int64_t count = (int64_t)n - done < rows ? (int64_t)n - done : rows;
        struct infer_call call = {.ids = ids + done,
                                  .slot = &slot,
                                  .past = &done,
                                  .n = &count,
                                  .n_seqs = 1,
                                  .all_rows = true,
                                  .logits = out + done * model->model->config.vocab};
        st = infer_run(infer, &call, err);
        done += count;
    }
    infer_free(&infer);
    return st;
}

enum mil_status mil_logits_save(mil_model *model, const int32_t *ids, size_t n, const char *path,
                                struct mil_error *err) {
    TRY(check_ids(model, ids, n, err));
    size_t elements;
    if (!checked_mul(n, (size_t)model->model->config.vocab, &elements))
        return error_nomem(err, UINT64_MAX);
    float *logits = mem_alloc(MEM_OTHER, elements, sizeof *logits);
    if (!logits) return error_nomem(err, (uint64_t)elements * sizeof *logits);
    enum mil_status st = mil_logits(model, ids, n, logits, err);
    int64_t shape[2] = {(int64_t)n, model->model->config.vocab};
    if (st == MIL_OK) st = npy_write_f32(path, logits, 2, shape, err);
    mem_free(logits);
    return st;
}
