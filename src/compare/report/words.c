/* SPDX-License-Identifier: Apache-2.0 */
/* words.c - what a report says in sentences: see tables.h.
 *
 * Every sentence is computed from the results and claims no more than they hold: a difference is called one only where
 * its 95 % interval leaves zero out, and beside the count of those stands how many of them chance alone would give. */
#include <math.h>
#include <string.h>

#include "compare/report/tables.h"

const char *report_title(const struct report *r) {
    const char *title = report_text(r->root, "title");
    return *title ? title : "Comparison";
}

void report_origin(const struct report *r, struct str *out) {
    const json_t *machine = report_at(r->root, "machine");
    const char *const parts[] = {report_text(r->root, "model"), report_text(r->root, "plan"),
                                 report_text(r->root, "program"), report_text(machine, "processor"),
                                 report_text(machine, "backend")};
    bool more = false;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!*parts[i]) continue;
        if (more) str_add(out, " \u00b7 ");
        str_add(out, parts[i]);
        more = true;
    }
    double threads = report_num(machine, "threads");
    if (threads >= 1) str_addf(out, ", %.0f thread%s", threads, threads < 2 ? "" : "s");
}

/* ---- statements ---- */

/* What the groups are ranked by: the average, or the first task with a score. */
static bool primary(const struct report *r, struct report_measure *m) {
    *m = report_measure(r, r->n_tasks);
    if (report_average_matters(r)) return true;
    for (size_t i = 0; i < r->n_tasks; i++) {
        *m = report_measure(r, i);
        if (report_has(r, m)) return true;
    }
    return false;
}

/* The group whose mean is best but for `skip`, or REPORT_NONE. */
static size_t best_group(const struct report *r, const struct report_measure *m, size_t skip) {
    size_t best = REPORT_NONE;
    double value = NAN;
    for (size_t i = 0; i < r->n_groups; i++) {
        double mean = report_summary(report_group(r, i), m).mean;
        if (i == skip || isnan(mean)) continue;
        if (best != REPORT_NONE && !(m->higher ? mean > value : mean < value)) continue;
        best = i;
        value = mean;
    }
    return best;
}

static void value_words(struct str *out, const struct report_measure *m, double value) {
    report_measured(out, m, value);
    if (m->share) str_add(out, " %");
}

static void say_best(const struct report *r, struct str *out) {
    struct report_measure m;
    size_t best = primary(r, &m) ? best_group(r, &m, REPORT_NONE) : REPORT_NONE;
    if (best == REPORT_NONE) {
        str_add(out, "No method has a score yet.");
        return;
    }
    struct report_spread s = report_summary(report_group(r, best), &m);
    report_group_name(r, best, out);
    str_addf(out, " has the %s %s: ", m.higher ? "highest" : "lowest",
             m.task ? m.name : "average score");
    value_words(out, &m, s.mean);
    if (isnan(s.sd))
        str_addf(out, " (%.0f seed)", s.n);
    else {
        str_add(out, " (standard deviation ");
        report_measured(out, &m, s.sd);
        str_addf(out, ", %.0f seeds)", s.n);
    }
    size_t next = best_group(r, &m, best);
    if (next != REPORT_NONE) {
        str_add(out, "; next is ");
        report_group_name(r, next, out);
        str_add(out, " with ");
        value_words(out, &m, report_summary(report_group(r, next), &m).mean);
    }
    str_add(out, ".");
}

static void interval_words(struct str *out, const struct report_measure *m,
                           const struct report_interval *d) {
    report_measured_signed(out, m, d->mean);
    if (m->share) str_add(out, " points");
    if (isnan(d->low) || isnan(d->high)) {
        str_add(out, ", from one pair of runs: no interval, hence no finding");
        return;
    }
    if (!report_has_width(d->low, d->high)) {
        str_addf(out, " in each of %.0f pairs of seeds: no interval, hence no finding", d->n);
        return;
    }
    str_addf(out, " over %.0f pairs of seeds; its 95 %% interval, ", d->n);
    report_measured(out, m, d->low);
    str_add(out, " to ");
    report_measured(out, m, d->high);
    str_add(out, report_excludes_zero(d) ? ", excludes zero" : ", holds zero: no finding");
}

static void say_difference(const struct report *r, struct str *out) {
    struct report_measure m;
    size_t best = primary(r, &m) ? best_group(r, &m, REPORT_NONE) : REPORT_NONE;
    if (best == REPORT_NONE) return;
    bool itself = !report_baseline(r, report_group(r, best));
    size_t group = itself ? best_group(r, &m, best) : best;
    const json_t *g = report_group(r, group), *baseline = report_baseline(r, g);
    struct report_interval d = report_difference(g, &m);
    if (!baseline || isnan(d.mean)) return;
    str_add(out, "Difference of ");
    report_group_name(r, group, out);
    str_addf(out, " to %s: ", report_text(baseline, "label"));
    interval_words(out, &m, &d);
    str_add(out, ".");
}

static void say_multiplicity(const struct report *r, struct str *out) {
    size_t intervals = 0, without = 0;
    for (size_t i = 0; i < r->n_groups; i++)
        for (size_t k = 0; k < r->n_tasks; k++) {
            struct report_measure m = report_measure(r, k);
            struct report_interval d = report_difference(report_group(r, i), &m);
            intervals += report_has_width(d.low, d.high);
            without += report_excludes_zero(&d);
        }
    if (!intervals) return;
    str_addf(out,
             "Of %zu paired comparisons with the baseline (methods by tasks), %zu %s an interval "
             "that excludes zero; were there no differences at all, chance would give about "
             "%.1f.",
             intervals, without, without == 1 ? "has" : "have", 0.05 * (double)intervals);
}

/* Groups in the order of the measure, each once, at most `most` of them. */
static size_t ranked(const struct report *r, const struct report_measure *m, size_t *order,
                     size_t most) {
    bool used[REPORT_GROUPS] = {false};
    size_t n = 0;
    while (n < most) {
        size_t best = REPORT_NONE;
        double value = NAN;
        for (size_t i = 0; i < r->n_groups; i++) {
            double mean = report_summary(report_group(r, i), m).mean;
            if (used[i] || isnan(mean) || (best != REPORT_NONE && !(mean < value))) continue;
            best = i;
            value = mean;
        }
        if (best == REPORT_NONE) break;
        used[best] = true;
        order[n++] = best;
    }
    return n;
}

static void say_forgetting(const struct report *r, struct str *out) {
    enum { MOST = 8 };
    struct report_measure m = report_measure(r, r->n_tasks + 1);
    size_t order[MOST], n = ranked(r, &m, order, MOST);
    double entropy = report_num(report_at(r->root, "base"), "base_entropy");
    if (!n) return;
    str_add(out, "Forgetting loss, least first: ");
    for (size_t i = 0; i < n; i++) {
        if (i) str_add(out, ", ");
        report_group_name(r, order[i], out);
        str_add(out, " ");
        report_fixed(out, report_summary(report_group(r, order[i]), &m).mean, 2);
    }
    if (!isnan(entropy)) {
        str_add(out, "; nothing forgotten would be ");
        report_fixed(out, entropy, 2);
    }
    str_add(out, ".");
}

static void say_cost(const struct report *r, struct str *out) {
    size_t most = REPORT_NONE, least = REPORT_NONE;
    double high = -INFINITY, low = INFINITY;
    for (size_t i = 0; i < r->n_groups; i++) {
        const json_t *g = report_group(r, i);
        double x = report_num(report_at(report_at(g, "summary"), "cost"), "step_seconds");
        if (isnan(x) || !report_baseline(r, g)) continue;
        if (x > high) {
            high = x;
            most = i;
        }
        if (x < low) {
            low = x;
            least = i;
        }
    }
    if (most == REPORT_NONE) return;
    if (most == least) {
        str_addf(out, "The training steps take %.2f times as long with ", low);
        report_group_name(r, most, out);
        str_add(out, " as with the baseline.");
        return;
    }
    str_addf(out, "Against the baseline the training steps take from %.2f (", low);
    report_group_name(r, least, out);
    str_addf(out, ") to %.2f (", high);
    report_group_name(r, most, out);
    str_add(out, ") times as long.");
}

static void say_base(const struct report *r, struct str *out) {
    struct report_measure m;
    const json_t *scores = report_at(report_at(r->root, "base"), "scores");
    bool more = false;
    for (size_t i = 0; i < r->n_tasks; i++) {
        m = report_measure(r, i);
        double value = report_num(report_at(scores, m.key), "value");
        if (isnan(value)) continue;
        str_add(out, more ? ", " : "The untouched model scores ");
        value_words(out, &m, value);
        str_addf(out, " on %s", m.name);
        more = true;
    }
    if (more) str_add(out, ".");
}

static void say_cells(const struct report *r, struct str *out) {
    if (!r->n_cells) {
        str_add(out, "The results hold no cells.");
        return;
    }
    if (r->n_done == r->n_cells) {
        str_addf(out, "All %zu cells are done.", r->n_cells);
        return;
    }
    str_addf(out, "Incomplete: of %zu cells %zu are done", r->n_cells, r->n_done);
    if (r->n_failed) str_addf(out, ", %zu failed", r->n_failed);
    if (r->n_pending)
        str_addf(out, ", %zu %s still to run", r->n_pending, r->n_pending == 1 ? "is" : "are");
    str_add(out, "; means are over what is done.");
}

/* "GSM8K: data in lora/seed-2 and 3 more" for each task whose values were not graded alike. */
static void say_unlike(const struct report *r, struct str *out) {
    bool any = false;
    for (size_t i = 0; i < r->n_tasks; i++) {
        const json_t *list = report_at(report_task(r, i), "unlike");
        const json_t *first = json_array_get(list, 0), *what = report_at(first, "what");
        size_t n = json_array_size(list);
        if (!n) continue;
        str_add(out, any ? "; "
                         : "Not graded like the first evaluation of the task, so not "
                           "comparable with it: ");
        any = true;
        str_addf(out, "%s in %s", report_text(report_task(r, i), "id"), report_text(first, "cell"));
        if (n > 1) str_addf(out, " and %zu more", n - 1);
        str_add(out, " (other ");
        for (size_t k = 0; k < json_array_size(what); k++) {
            const char *word = json_string_value(json_array_get(what, k));
            str_addf(out, "%s%s", k ? ", " : "", word ? word : "");
        }
        str_add(out, ")");
    }
    if (any) str_add(out, ". Take those evaluations' files away, and they are graded anew.");
}

bool report_statement(const struct report *r, size_t i, struct str *out) {
    static void (*const say[])(const struct report *, struct str *) = {
        say_cells,        say_unlike,     say_best, say_difference,
        say_multiplicity, say_forgetting, say_cost, say_base};
    if (i >= sizeof say / sizeof *say) return false;
    say[i](r, out);
    return true;
}

/* ---- reading ---- */

bool report_reading(const struct report *r, size_t i, struct str *out) {
    static const char *const paragraphs[] = {
        "The figure behind \u00b1 is the standard deviation over seeds (n \u2212 1): how far "
        "single "
        "runs of one method lie apart. A seed decides the adapter's random start and the order of "
        "the training rows; for one seed all methods see the same rows in the same order. "
        "Differences are therefore taken between runs of the same seed, and their 95 % intervals "
        "follow Student's t over these pairs. Few seeds make wide intervals: with three, the "
        "interval reaches 2.5 standard deviations to either side.",
        "A difference whose interval holds zero is no finding, whichever mean is higher. The "
        "interval by rows answers another question: whether the same trained models would differ "
        "on "
        "other questions of this kind. Where many comparisons are made, one in twenty excludes "
        "zero "
        "by chance. Every method runs at the rate and rank that the plan gives it; another rate "
        "can "
        "change the order."};
    (void)r;
    if (i >= sizeof paragraphs / sizeof *paragraphs) return false;
    str_add(out, paragraphs[i]);
    return true;
}
