/* SPDX-License-Identifier: Apache-2.0 */
/* perplexity.c - next-token loss on text:
 *     ppl = exp( (1/n) sum_t -log p(x_t | x_<t in its window) )
 * over the n scored tokens (windows.h).  Bits per byte = sum / (ln 2 * bytes of the scored tokens):
 * comparable between tokenizers, perplexity is not.  Standard error of ppl by the delta method,
 * ppl * s / sqrt(n) with s the standard deviation of the tokens' losses taken as independent (they
 * are not quite: read it as a lower bound). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "eval/corpus.h"
#include "eval/resume.h"
#include "eval/tasks/task.h"
#include "eval/tasks/windows.h"

#define DEFAULT_WINDOW 1024
#define CALL_TOKENS 2048 /* short windows run together up to this; never depends on batch_size */
#define HEAD_CHUNK 256   /* rows of logits held at once */

struct scorer {
    const struct task_run *run;
    const struct corpus *corpus;
    int64_t window, stride, max_tokens, windows, limit;
    struct step *step;
    /* the present call */
    int32_t *ids, *position, *row, *label;
    struct attn_seq *seqs;
    float *loss;
    int64_t tokens, n_seqs, n_rows;
    /* sums so far */
    struct meter meter;
    struct sample_file file;
    double sum, squares;
    int64_t scored, bytes, done, gathered;
    struct resume resume;
    bool taking; /* lines of an earlier run are being taken */
    int64_t resumed, resumed_tokens;
};

static enum mil_status settings(struct scorer *s, struct mil_error *err) {
    const struct mil_eval_options *o = s->run->options;
    int64_t positions = s->run->positions;
    s->window = o->max_length ? o->max_length : DEFAULT_WINDOW;
    if (!o->max_length && s->window > positions) s->window = positions;
    s->stride = o->stride ? o->stride : s->window;
    if (s->window < 2 || s->window > positions)
        return error_set(err, MIL_USAGE,
                         "max_length is %lld; it must be between 2 and the %lld positions the "
                         "model was opened for",
                         (long long)s->window, (long long)positions);
    if (s->stride > s->window)
        return error_set(err, MIL_USAGE, "stride is %lld; it must be at most max_length (%lld)",
                         (long long)s->stride, (long long)s->window);
    s->max_tokens = s->window > CALL_TOKENS ? s->window : CALL_TOKENS;
    return MIL_OK;
}

static enum mil_status count_windows(struct scorer *s, struct mil_error *err) {
    const struct corpus *c = s->corpus;
    for (int64_t d = 0; d < c->n_docs; d++)
        s->windows += window_count(c->begin[d + 1] - c->begin[d], s->window, s->stride);
    int64_t limit = s->run->options->limit;
    s->limit = limit > 0 && limit < s->windows ? limit : s->windows;
    if (s->limit > 0) return MIL_OK;
    return error_set(err, MIL_INPUT, "%s: holds no text of two tokens or more", s->run->data_path);
}

static enum mil_status buffers_new(struct scorer *s, struct mil_error *err) {
    size_t n = (size_t)s->max_tokens;
    struct step_options o = {.max_tokens = s->max_tokens,
                             .max_rows = s->max_tokens,
                             .head_chunk = HEAD_CHUNK,
                             .recompute = true}; /* nothing is kept for a backward pass */
    s->ids = mem_alloc(MEM_SCRATCH, n, sizeof *s->ids);
    s->position = mem_alloc(MEM_SCRATCH, n, sizeof *s->position);
    s->row = mem_alloc(MEM_SCRATCH, n, sizeof *s->row);
    s->label = mem_alloc(MEM_SCRATCH, n, sizeof *s->label);
    s->loss = mem_alloc(MEM_SCRATCH, n, sizeof *s->loss);
    s->seqs = mem_alloc(MEM_SCRATCH, n, sizeof *s->seqs);
    if (!s->ids || !s->position || !s->row || !s->label || !s->loss || !s->seqs)
        return error_nomem(err, n * sizeof *s->seqs);
    return step_new(s->run->model, &o, &s->step, err);
}

static void scorer_release(struct scorer *s) {
    step_free(&s->step);
    mem_free(s->ids);
    mem_free(s->position);
    mem_free(s->row);
    mem_free(s->label);
    mem_free(s->loss);
    mem_free(s->seqs);
    samples_close(&s->file, NULL);
    resume_end(&s->resume);
}

/* Append a window to the call; ids: the document's. */
static void gather(struct scorer *s, const int32_t *ids, const int32_t *bytes, struct window w) {
    int64_t n = w.end - w.begin;
    for (int64_t i = 0; i < n; i++) {
        int64_t t = w.begin + i;
        s->ids[s->tokens + i] = ids[t];
        s->position[s->tokens + i] = (int32_t)i;
        if (t < w.first) continue;
        s->row[s->n_rows] = (int32_t)(s->tokens + i - 1);
        s->label[s->n_rows++] = ids[t];
        s->bytes += bytes[t];
    }
    s->seqs[s->n_seqs++] = (struct attn_seq){s->tokens, n, s->tokens, n};
    s->tokens += n;
    s->gathered++;
}

/* One line a window.  Its sums are in it to the last bit, so that a resumed run ends with the same
 * result: they are added up window by window. */
static enum mil_status add_window(struct scorer *s, int64_t tokens, double sum, double squares,
                                  struct mil_error *err) {
    s->sum += sum;
    s->squares += squares;
    s->scored += tokens;
    samples_integer(&s->file, "window", s->done++);
    samples_integer(&s->file, "tokens", tokens);
    samples_number(&s->file, "nll", sum / (double)tokens);
    samples_number(&s->file, "sum", sum);
    samples_number(&s->file, "squares", squares);
    return samples_end(&s->file, err);
}

/* A window's rows are those below the next sequence's first token. */
static enum mil_status sum_windows(struct scorer *s, struct mil_error *err) {
    int64_t r = 0;
    for (int64_t i = 0; i < s->n_seqs; i++) {
        int64_t end = s->seqs[i].q_row + s->seqs[i].n_q, from = r;
        double sum = 0, squares = 0;
        for (; r < s->n_rows && s->row[r] < end; r++) {
            double loss = s->loss[r];
            if (!isfinite(loss))
                return error_set(err, MIL_NUMERIC, "window %lld: the loss is not finite",
                                 (long long)s->done + 1);
            sum += loss;
            squares += loss * loss;
        }
        TRY(add_window(s, r - from, sum, squares, err));
    }
    return MIL_OK;
}

/* ---- what an earlier run left ---- */

static enum mil_status stop_taking(struct scorer *s, struct mil_error *err) {
    s->taking = false;
    s->resumed = s->done;
    s->resumed_tokens = s->scored;
    s->meter.before = s->done;
    return samples_continue(&s->file, err);
}

/* The line of this window, if there is one. */
static enum mil_status take_window(struct scorer *s, const int32_t *bytes, struct window w,
                                   struct mil_error *err) {
    const char *where = s->resume.path;
    int64_t window = 0, tokens = 0;
    double sum = 0, squares = 0, most = DBL_MAX;
    json_t *line = NULL;
    TRY(resume_next(&s->resume, &line, err));
    if (!line) return stop_taking(s, err);
    bool ok =
        json_member_i64(line, where, "window", true, s->done, s->done, &window, NULL) == MIL_OK &&
        json_member_i64(line, where, "tokens", true, w.end - w.first, w.end - w.first, &tokens,
                        NULL) == MIL_OK &&
        json_member_f64(line, where, "sum", true, 0, most, &sum, NULL) == MIL_OK &&
        json_member_f64(line, where, "squares", true, 0, most, &squares, NULL) == MIL_OK;
    json_decref(line);
    if (!ok) return resume_bad(&s->resume, "is not the window that belongs there", err);
    for (int64_t t = w.first; t < w.end; t++) s->bytes += bytes[t];
    s->gathered++;
    return add_window(s, tokens, sum, squares, err);
}

static enum mil_status finish_taking(struct scorer *s, struct mil_error *err) {
    json_t *line = NULL;
    if (!s->taking) return MIL_OK;
    TRY(resume_next(&s->resume, &line, err));
    json_decref(line);
    if (line) return resume_bad(&s->resume, "is more than this run has windows for", err);
    return stop_taking(s, err);
}

static enum mil_status open_samples(struct scorer *s, struct mil_error *err) {
    json_t *settings = NULL;
    TRY(resume_settings(s->run, &settings, err));
    bool bad = json_object_set_new(settings, "max_length", json_integer(s->window)) ||
               json_object_set_new(settings, "stride", json_integer(s->stride));
    enum mil_status st = bad ? error_nomem(err, 0) : MIL_OK;
    if (st == MIL_OK) st = resume_begin(&s->resume, s->run, settings, err);
    if (st == MIL_OK) st = resume_open_samples(&s->resume, s->run, settings, &s->file, err);
    json_decref(settings);
    s->taking = true;
    return st;
}

static enum mil_status flush(struct scorer *s, struct mil_error *err) {
    if (s->n_seqs == 0) return MIL_OK;
    struct batch batch = {.tokens = s->tokens,
                          .ids = s->ids,
                          .position = s->position,
                          .seqs = s->seqs,
                          .n_seqs = s->n_seqs,
                          .row = s->row,
                          .label = s->label,
                          .n_rows = s->n_rows,
                          .loss_scale = 1};
    double unused;
    TRY(step_loss(s->step, &batch, &unused, s->loss, err));
    TRY(sum_windows(s, err));
    s->tokens = s->n_seqs = s->n_rows = 0;
    double mean = s->sum / (double)s->scored;
    if (meter_report(&s->meter, s->done, exp(mean), s->scored, s->done == s->limit) ||
        s->done == s->limit)
        return MIL_OK;
    return error_set(err, MIL_INTERRUPTED, "stopped on request after %lld of %lld windows",
                     (long long)s->done, (long long)s->limit);
}

static enum mil_status score_all(struct scorer *s, struct mil_error *err) {
    const struct corpus *c = s->corpus;
    meter_start(&s->meter, s->run->progress, s->run->ctx, s->limit);
    for (int64_t d = 0; d < c->n_docs; d++) {
        int64_t n = c->begin[d + 1] - c->begin[d];
        int64_t windows = window_count(n, s->window, s->stride);
        for (int64_t i = 0; i < windows && s->gathered < s->limit; i++) {
            struct window w = window_at(n, s->window, s->stride, i);
            if (s->taking) TRY(take_window(s, c->bytes + c->begin[d], w, err));
            if (s->taking) continue;
            if (s->tokens + w.end - w.begin > s->max_tokens) TRY(flush(s, err));
            gather(s, c->ids + c->begin[d], c->bytes + c->begin[d], w);
        }
    }
    TRY(finish_taking(s, err));
    return flush(s, err);
}

static void describe(const struct scorer *s, struct mil_eval_result *r) {
    snprintf(r->template_name, sizeof r->template_name, "raw");
    snprintf(r->protocol, sizeof r->protocol,
             "text tokenised whole (rows: each a text), special tokens as the tokenizer adds them; "
             "windows of %lld tokens, %lld apart; each token scored once, in the first window that "
             "holds it with a token before it; perplexity = exp(mean loss), base-2 loss over UTF-8 "
             "bytes of the scored tokens as bits per byte",
             (long long)s->window, (long long)s->stride);
    r->limit = s->run->options->limit;
    r->max_length = s->window;
    r->stride = s->stride;
}

static void conclude(const struct scorer *s, struct mil_eval_result *r) {
    double n = (double)s->scored, mean = s->sum / n, seconds = meter_seconds(&s->meter);
    double variance = n > 1 ? (s->squares - n * mean * mean) / (n - 1) : 0;
    r->n = s->scored;
    r->value = exp(mean);
    r->std_error = r->value * sqrt(variance > 0 ? variance / n : 0);
    result_add(r, "nll", mean);
    result_add(r, "tokens", n);
    if (s->bytes > 0) result_add(r, "bits_per_byte", s->sum / (log(2) * (double)s->bytes));
    result_add(r, "bytes", (double)s->bytes);
    result_add(r, "windows", (double)s->done);
    result_add(r, "documents", (double)s->corpus->n_docs);
    if (s->resumed > 0) result_add(r, "resumed", (double)s->resumed);
    result_add(r, "seconds", seconds);
    double made = (double)(s->scored - s->resumed_tokens);
    result_add(r, "tokens_per_second", seconds > 0 ? made / seconds : 0);
}

enum mil_status perplexity_run(const struct task_run *run, struct mil_eval_result *result,
                               struct mil_error *err) {
    struct corpus corpus = {0};
    struct scorer s = {.run = run, .corpus = &corpus};
    enum mil_status st;
    TRY_GOTO(settings(&s, err));
    TRY_GOTO(corpus_load(run->data_path, run->tokenizer, &corpus, err));
    TRY_GOTO(count_windows(&s, err));
    TRY_GOTO(buffers_new(&s, err));
    TRY_GOTO(open_samples(&s, err));
    describe(&s, result);
    TRY_GOTO(score_all(&s, err));
    TRY_GOTO(samples_close(&s.file, err));
    conclude(&s, result);
fail:
    scorer_release(&s);
    corpus_release(&corpus);
    return st;
}
