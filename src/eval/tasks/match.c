/* SPDX-License-Identifier: Apache-2.0 */
/* match.c - tasks that grade by comparing text: outputs -> verdicts -> accuracy.
 *
 * Every output is judged by every grader of its task; the chosen one's verdicts are the score, and
 * how many of the others' differ is counted.  Standard error of the accuracy p over n outputs:
 * sqrt(p (1 - p) / n). */
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "eval/outputs.h"

enum { MAX_GRADERS = 8 };

struct tally {
    int64_t right, unparsed, differs;
};
struct match {
    const struct task_run *run;
    const struct match_rules *rules;
    const char *format; /* of the rows, once the first is seen */
    size_t n_graders, chosen;
    struct tally tally[MAX_GRADERS];
    int64_t graded;
    struct str extracted, scratch;
};
/* What a row is compared with. */
struct match_row {
    char *truth, *reference;
};

/* ---- rows ---- */

static void row_release(void *data) {
    struct match_row *r = data;
    mem_free(r->truth);
    mem_free(r->reference);
    mem_free(r);
}

static enum mil_status row_fill(const struct match *m, const struct eval_row *row,
                                struct match_row *out, struct mil_error *err) {
    struct str text = {0};
    bool usable = m->rules->truth(m->rules, row, &text);
    enum mil_status st = str_status(&text, err);
    if (st == MIL_OK && !usable)
        st = error_set(err, MIL_INPUT, "nothing to compare with: task %s needs %s",
                       m->run->task->name, m->rules->truth_needs);
    if (st == MIL_OK) {
        out->truth = str_take(&text);
        if (row->output) out->reference = mem_strdup(MEM_TEXT, row->output);
        if (!out->truth || (row->output && !out->reference)) st = error_nomem(err, 0);
    }
    str_release(&text);
    return st;
}

static enum mil_status on_row(void *ctx, const json_t *json, struct outputs_row *out,
                              struct mil_error *err) {
    struct match *m = ctx;
    if (!m->format && !(m->format = dataset_detect(json)))
        return error_set(err, MIL_INPUT, "its keys belong to no known format of data");
    TRY(dataset_row_parse(m->format, json, &out->row, err));
    struct match_row *data = mem_calloc(MEM_TEXT, 1, sizeof *data);
    if (!data) return error_nomem(err, sizeof *data);
    out->data = data;
    return row_fill(m, &out->row, data, err);
}

/* ---- outputs ---- */

static double accuracy(const void *ctx) {
    const struct match *m = ctx;
    return m->graded ? (double)m->tally[m->chosen].right / (double)m->graded : 0;
}

static enum mil_status judge(struct match *m, const struct output *o, enum verdict *v,
                             struct mil_error *err) {
    const struct match_row *row = o->data;
    for (size_t i = 0; i < m->n_graders; i++) {
        struct str *extracted = i == m->chosen ? &m->extracted : &m->scratch;
        str_reset(extracted);
        v[i] =
            m->rules->graders[i]->grade(m->rules, o->text, row->truth, row->reference, extracted);
        TRY(str_status(extracted, err));
    }
    for (size_t i = 0; i < m->n_graders; i++) {
        m->tally[i].right += v[i] == VERDICT_RIGHT;
        m->tally[i].unparsed += v[i] == VERDICT_UNPARSED;
        m->tally[i].differs += (v[i] == VERDICT_RIGHT) != (v[m->chosen] == VERDICT_RIGHT);
    }
    m->graded++;
    return MIL_OK;
}

static enum mil_status on_output(void *ctx, const struct output *o, struct sample_file *f,
                                 struct mil_error *err) {
    struct match *m = ctx;
    enum verdict v[MAX_GRADERS];
    TRY(judge(m, o, v, err));
    bool parsed = v[m->chosen] != VERDICT_UNPARSED;
    samples_text(f, "verdict", verdict_name(v[m->chosen]));
    samples_object(f, "verdicts");
    for (size_t i = 0; i < m->n_graders; i++)
        samples_text(f, m->rules->graders[i]->name, verdict_name(v[i]));
    samples_object_end(f);
    samples_text(f, "extracted", parsed ? str_c(&m->extracted) : NULL);
    samples_text(f, "truth", ((const struct match_row *)o->data)->truth);
    return MIL_OK;
}

/* ---- the whole ---- */

static void conclude(const struct match *m, const struct outputs_facts *facts,
                     struct mil_eval_result *r) {
    const struct grader *chosen = m->rules->graders[m->chosen];
    char name[64];
    result_protocol(r, "; %s", chosen->counts);
    r->n = m->graded;
    r->value = accuracy(m);
    r->std_error = sqrt(r->value * (1 - r->value) / (double)r->n);
    result_add(r, "correct", (double)m->tally[m->chosen].right);
    result_add(r, "unparsed", (double)m->tally[m->chosen].unparsed);
    for (size_t i = 0; i < m->n_graders; i++) {
        if (i == m->chosen) continue;
        snprintf(name, sizeof name, "correct_%s", m->rules->graders[i]->name);
        result_add(r, name, (double)m->tally[i].right);
        snprintf(name, sizeof name, "differs_%s", m->rules->graders[i]->name);
        result_add(r, name, (double)m->tally[i].differs);
    }
    outputs_values(r, facts);
}

enum mil_status match_run(const struct task_run *run, struct mil_eval_result *result,
                          struct mil_error *err) {
    struct match m = {.run = run, .rules = run->task->rules};
    struct outputs_facts facts;
    struct outputs_hooks hooks = {
        .ctx = &m, .row = on_row, .output = on_output, .value = accuracy, .release = row_release};
    while (m.rules->graders[m.n_graders]) m.n_graders++;
    REQUIRE(m.n_graders >= 1 && m.n_graders <= MAX_GRADERS);
    TRY(task_grader(run->task, run->options->grader, &m.chosen, err));
    snprintf(result->grader, sizeof result->grader, "%s", m.rules->graders[m.chosen]->name);
    enum mil_status st = outputs_run(run, &m.rules->outputs, &hooks, result, &facts, err);
    if (st == MIL_OK) conclude(&m, &facts, result);
    str_release(&m.extracted);
    str_release(&m.scratch);
    return st;
}
