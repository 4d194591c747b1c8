/* SPDX-License-Identifier: Apache-2.0 */
/* likelihood.c - multiple choice by likelihood, as lm-evaluation-harness scores it:
 *     l_i = sum over the tokens t of choice i of log p(t | context, the choice's tokens before t)
 *     acc: argmax l_i is the right choice;   acc_norm: argmax l_i / (characters of choice i)
 *
 * What a question's choices have in common in front (most often the whole context) is run once and
 * stays in the cache: choice after choice is then run from there in the same slot, overwriting the
 * one before.  A call takes all questions of the batch; where a call would hold too many logits it
 * is cut.  A row's bits depend on neither (docs/numerics.md), so batch_size does not change a
 * result. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/cpu.h"
#include "core/mem.h"
#include "core/threads.h"
#include "eval/resume.h"
#include "eval/tasks/likelihood.h"
#include "kern/kern.h"

#define DEFAULT_BATCH 8
#define CALL_TOKENS 2048       /* of a call at most */
#define LOGIT_FLOATS (1 << 24) /* of a call, unless the batch itself needs more */

struct scored {
    int64_t row; /* of the call's logits */
    int32_t label;
    float loss;
    double *sum;
};
struct scorer {
    const struct task_run *run;
    int64_t batch, max_tokens, max_rows;
    struct asked_rows asked;
    json_t *settings; /* for a run that goes on after this one */
    struct resume resume;
    /* the present call */
    struct kern kern;
    struct infer *infer;
    struct infer_call call;
    int32_t *ids, *slot;
    int64_t *past, *n;
    float *logits;
    struct scored *scored;
    int64_t n_scored, tokens, rows;
    /* sums so far */
    struct meter meter;
    struct sample_file file;
    int64_t done, resumed, right, right_norm, tokens_run;
};

/* ---- calls ---- */

static void add_scored(struct scorer *s, int64_t row, int32_t label, double *sum) {
    s->scored[s->n_scored++] = (struct scored){.row = row, .label = label, .sum = sum};
}

/* The row of logits after the shared tokens: it predicts the first token of every choice whose
 * scored part begins there. */
static void want_shared(struct scorer *s, struct asked *a, int64_t row) {
    for (int64_t i = 0; i < a->n; i++) {
        struct option *o = &a->option[i];
        if (o->start + 1 == a->shared) add_scored(s, row, o->ids[a->shared], &o->sum);
    }
}

/* Append up to `room` tokens of a question's present pass (pass < 0: the shared tokens) to the
 * call. */
static void gather(struct scorer *s, struct asked *a, int pass, int64_t slot, int64_t room) {
    struct option *o = &a->option[pass < 0 ? 0 : pass];
    int64_t end = pass < 0 ? a->shared : o->n, take = end - a->at;
    if (take > room) take = room;
    memcpy(s->ids + s->tokens, o->ids + a->at, (size_t)take * sizeof *s->ids);
    s->slot[s->call.n_seqs] = (int32_t)slot;
    s->past[s->call.n_seqs] = a->at;
    s->n[s->call.n_seqs++] = take;
    for (int64_t j = 0; pass >= 0 && j < take; j++)
        if (a->at + j >= o->start) add_scored(s, s->rows + j, o->ids[a->at + j + 1], &o->sum);
    a->at += take;
    if (pass < 0 && a->at == end) want_shared(s, a, s->rows);
    s->tokens += take;
    s->rows += pass < 0 ? 1 : take;
}

static void score_rows(void *ctx, int64_t begin, int64_t end) {
    struct scorer *s = ctx;
    int64_t vocab = s->run->model->config.vocab;
    for (int64_t i = begin; i < end; i++) {
        struct scored *c = &s->scored[i];
        struct kern_cross_entropy a = {.logits = s->logits + c->row * vocab,
                                       .loss = &c->loss,
                                       .label = &c->label,
                                       .cols = vocab,
                                       .ld_logits = vocab,
                                       .ld_loss = 1};
        s->kern.cross_entropy(&a, 0, 1);
    }
}

static enum mil_status run_call(struct scorer *s, struct mil_error *err) {
    TRY(infer_run(s->infer, &s->call, err));
    parallel_for(s->n_scored, 1, score_rows, s);
    for (int64_t i = 0; i < s->n_scored; i++) {
        if (!isfinite(s->scored[i].loss))
            return error_set(err, MIL_NUMERIC,
                             "a choice's likelihood is not finite (among the questions after %lld)",
                             (long long)s->done);
        *s->scored[i].sum -= s->scored[i].loss;
    }
    s->tokens_run += s->tokens;
    s->tokens = s->rows = s->n_scored = s->call.n_seqs = 0;
    return MIL_OK;
}

/* What is left of a question's pass. */
static int64_t left_of(const struct asked *a, int pass) {
    if (pass >= a->n) return 0;
    return (pass < 0 ? a->shared : a->option[pass].n) - a->at;
}

/* The shared tokens (pass -1), or choice `pass`, of n questions, in as many calls as it takes. */
static enum mil_status run_pass(struct scorer *s, struct asked *a, int64_t n, int pass,
                                struct mil_error *err) {
    bool more = true;
    for (int64_t i = 0; i < n; i++) a[i].at = pass < 0 ? 0 : a[i].shared;
    s->call.all_rows = pass >= 0;
    while (more) {
        more = false;
        for (int64_t i = 0; i < n; i++) {
            int64_t room = s->max_tokens - s->tokens;
            if (pass >= 0 && room > s->max_rows - s->rows) room = s->max_rows - s->rows;
            if (left_of(&a[i], pass) > 0 && room > 0) gather(s, &a[i], pass, i, room);
            more |= left_of(&a[i], pass) > 0;
        }
        if (s->tokens > 0) TRY(run_call(s, err));
    }
    return MIL_OK;
}

/* ---- verdicts ---- */

static int64_t best(const struct asked *a, bool by_characters) {
    int64_t at = 0;
    double highest = 0;
    for (int64_t i = 0; i < a->n; i++) {
        const struct option *o = &a->option[i];
        double value = o->sum;
        if (by_characters) value = o->characters > 0 ? value / (double)o->characters : -DBL_MAX;
        if (i > 0 && value <= highest) continue; /* the first of equals, as numpy's argmax */
        at = i;
        highest = value;
    }
    return at;
}

/* Contexts that are the first one again are left out: mostly all but one. */
static void write_lists(const struct asked *a, struct sample_file *f) {
    const struct choice *c = a->texts->choices;
    samples_list(f, "loglikelihoods");
    for (int64_t i = 0; i < a->n; i++) samples_list_number(f, a->option[i].sum);
    samples_list_end(f);
    samples_list(f, "contexts");
    for (int64_t i = 0; i < a->n; i++)
        if (i == 0 || strcmp(c[i].context, c[0].context) != 0) samples_list_text(f, c[i].context);
    samples_list_end(f);
    samples_list(f, "continuations");
    for (int64_t i = 0; i < a->n; i++) samples_list_text(f, c[i].continuation);
    samples_list_end(f);
}

static enum mil_status judge(struct scorer *s, const struct asked *a, struct mil_error *err) {
    int64_t chosen = best(a, false), chosen_norm = best(a, true);
    bool right = chosen == a->right, right_norm = chosen_norm == a->right;
    s->right += right;
    s->right_norm += right_norm;
    s->done++;
    if (!a->texts) return MIL_OK; /* no samples are wanted */
    samples_integer(&s->file, "row", a->row);
    samples_text(&s->file, "verdict", verdict_name(verdict_of(right)));
    samples_text(&s->file, "verdict_norm", verdict_name(verdict_of(right_norm)));
    samples_integer(&s->file, "chosen", chosen);
    samples_integer(&s->file, "chosen_norm", chosen_norm);
    samples_integer(&s->file, "truth", a->right);
    write_lists(a, &s->file);
    return samples_end(&s->file, err);
}

/* ---- going on after a stop ---- */

static enum mil_status take_line(void *ctx, const json_t *line, struct mil_error *err) {
    struct scorer *s = ctx;
    const json_t *sums = json_object_get(line, "loglikelihoods");
    if (s->done == (int64_t)s->asked.n)
        return resume_bad(&s->resume, "is more than this run has rows for", err);
    struct asked *a = &s->asked.rows[s->done];
    if (json_integer_value(json_object_get(line, "row")) != a->row)
        return resume_bad(&s->resume, "is not the sample that belongs there", err);
    bool ok = (int64_t)json_array_size(sums) == a->n;
    for (int64_t i = 0; ok && i < a->n; i++) {
        const json_t *sum = json_array_get(sums, (size_t)i);
        ok = json_is_number(sum);
        a->option[i].sum = json_number_value(sum);
    }
    if (!ok) return resume_bad(&s->resume, "is no sample of this task", err);
    s->resumed++;
    return judge(s, a, err);
}

/* ---- the whole ---- */

static enum mil_status score_all(struct scorer *s, struct mil_error *err) {
    int64_t total = (int64_t)s->asked.n;
    meter_start(&s->meter, s->run->progress, s->run->ctx, total);
    s->meter.before = s->resumed;
    while (s->done < total) {
        struct asked *a = s->asked.rows + s->done;
        int64_t n = total - s->done < s->batch ? total - s->done : s->batch;
        int64_t passes = 0;
        for (int64_t i = 0; i < n; i++)
            if (a[i].n > passes) passes = a[i].n;
        for (int pass = -1; pass < passes; pass++) TRY(run_pass(s, a, n, pass, err));
        for (int64_t i = 0; i < n; i++) TRY(judge(s, &a[i], err));
        bool last = s->done == total;
        double acc = (double)s->right / (double)s->done;
        if (!meter_report(&s->meter, s->done, acc, s->tokens_run, last) && !last)
            return error_set(err, MIL_INTERRUPTED, "stopped on request after %lld of %lld rows",
                             (long long)s->done, (long long)total);
    }
    return MIL_OK;
}

static enum mil_status settings(struct scorer *s, struct mil_error *err) {
    const struct mil_eval_options *o = s->run->options;
    s->batch = o->batch_size ? o->batch_size : DEFAULT_BATCH;
    TRY(task_max_length(s->run, &s->asked.max_length, err));
    TRY(resume_settings(s->run, &s->settings, err));
    json_t *length = json_integer(s->asked.max_length);
    return json_object_set_new(s->settings, "max_length", length) == 0 ? MIL_OK
                                                                       : error_nomem(err, 0);
}

static enum mil_status buffers_new(struct scorer *s, struct mil_error *err) {
    int64_t vocab = s->run->model->config.vocab;
    if (s->batch > (int64_t)s->asked.n) s->batch = (int64_t)s->asked.n;
    s->max_tokens = s->batch > CALL_TOKENS ? s->batch : CALL_TOKENS;
    s->max_rows = LOGIT_FLOATS / vocab < s->max_tokens ? LOGIT_FLOATS / vocab : s->max_tokens;
    if (s->max_rows < s->batch) s->max_rows = s->batch;
    if (s->max_rows < 1) s->max_rows = 1;
    size_t tokens = (size_t)s->max_tokens, batch = (size_t)s->batch, floats;
    if (!checked_mul((size_t)s->max_rows, (size_t)vocab, &floats)) return error_nomem(err, 0);
    struct infer_options o = {s->batch, s->asked.longest, s->max_tokens, s->max_rows};
    s->ids = mem_alloc(MEM_SCRATCH, tokens, sizeof *s->ids);
    s->slot = mem_alloc(MEM_SCRATCH, batch, sizeof *s->slot);
    s->past = mem_alloc(MEM_SCRATCH, batch, sizeof *s->past);
    s->n = mem_alloc(MEM_SCRATCH, batch, sizeof *s->n);
    s->logits = mem_alloc(MEM_SCRATCH, floats, sizeof *s->logits);
    s->scored = mem_alloc(MEM_SCRATCH, tokens + batch * CHOICES_MOST, sizeof *s->scored);
    if (!s->ids || !s->slot || !s->past || !s->n || !s->logits || !s->scored)
        return error_nomem(err, floats * sizeof *s->logits);
    s->call = (struct infer_call){
        .ids = s->ids, .slot = s->slot, .past = s->past, .n = s->n, .logits = s->logits};
    kern_table_init(&s->kern, DT_F32, cpu_isa_used());
    return infer_new(s->run->model, &o, &s->infer, err);
}

static void scorer_release(struct scorer *s) {
    infer_free(&s->infer);
    asked_rows_release(&s->asked);
    resume_end(&s->resume);
    json_decref(s->settings);
    mem_free(s->ids);
    mem_free(s->slot);
    mem_free(s->past);
    mem_free(s->n);
    mem_free(s->logits);
    mem_free(s->scored);
    samples_close(&s->file, NULL);
}

static void describe(const struct scorer *s, struct mil_eval_result *r) {
    snprintf(r->template_name, sizeof r->template_name, "lm-eval");
    snprintf(
        r->protocol, sizeof r->protocol,
        "lm-evaluation-harness's protocol, zero-shot, its texts: log-likelihood of each choice "
        "after the context, summed over the choice's tokens; acc: the most likely choice is "
        "the right one; acc_norm: the same with each sum divided by the choice's characters; "
        "sequences longer than %lld tokens lose their beginning",
        (long long)s->asked.max_length);
    if (s->asked.lost)
        result_protocol(r, "; %lld of %zu rows %s: not lm-eval's", (long long)s->asked.poorer,
                        s->asked.n, s->asked.lost);
    r->limit = s->run->options->limit;
    r->max_length = s->asked.max_length;
}

/* Of a mean of n zeros and ones, from their sample variance. */
static double std_error(double p, double n) {
    return n > 1 ? sqrt(p * (1 - p) / (n - 1)) : 0;
}

static void conclude(const struct scorer *s, struct mil_eval_result *r) {
    double n = (double)s->done, norm = (double)s->right_norm / n;
    double seconds = meter_seconds(&s->meter);
    r->n = s->done;
    r->value = (double)s->right / n;
    r->std_error = std_error(r->value, n);
    result_add(r, "acc_norm", norm);
    result_add(r, "acc_norm_std_error", std_error(norm, n));
    result_add(r, "correct", (double)s->right);
    result_add(r, "correct_norm", (double)s->right_norm);
    result_add(r, "chance", s->asked.chance / n);
    result_add(r, "choices", (double)s->asked.choices);
    result_add(r, "truncated", (double)s->asked.truncated);
    result_add(r, "tokens", (double)s->asked.tokens);
    result_add(r, "tokens_run", (double)s->tokens_run);
    if (s->resumed > 0) result_add(r, "resumed", (double)s->resumed);
    result_add(r, "seconds", seconds);
    result_add(r, "rows_per_second", seconds > 0 ? (n - (double)s->resumed) / seconds : 0);
}

enum mil_status likelihood_run(const struct task_run *run, struct mil_eval_result *result,
                               struct mil_error *err) {
    struct scorer s = {.run = run};
    enum mil_status st;
    TRY_GOTO(settings(&s, err));
    TRY_GOTO(asked_rows_load(&s.asked, run, err));
    TRY_GOTO(buffers_new(&s, err));
    TRY_GOTO(resume_take(&s.resume, run, s.settings, &s.file, take_line, &s, err));
    describe(&s, result);
    TRY_GOTO(score_all(&s, err));
    TRY_GOTO(samples_close(&s.file, err));
    conclude(&s, result);
fail:
    scorer_release(&s);
    return st;
}
