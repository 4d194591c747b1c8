/* SPDX-License-Identifier: Apache-2.0 */
/* gsm8k.c - grade-school word problems (Cobbe et al., "Training verifiers to solve math word
 * problems"), prompted as the official MiLoRA, PiSSA and MetaMath programs do: zero-shot, Stanford
 * Alpaca's prompt, the response begun with "Let's think step by step.", greedy; and judged by each
 * of the programs in use (docs/graders.md).
 *
 * The reference is the number after "####".  A model trained on MetaMathQA ends with "The answer
 * is: 18", one trained on GSM8K with "#### 18": strict takes both. */
#include <stdlib.h>
#include <string.h>

#include "eval/graders/grade.h"
#include "eval/graders/grade_metamath.h"
#include "eval/tasks/metamath.h"
#include "eval/tasks/task.h"

static bool truth(const struct match_rules *rules, const struct eval_row *row, struct str *out) {
    (void)rules;
    return row->truth && grade_hash_number(row->truth, out);
}

static enum verdict grade_strict(const struct match_rules *rules, const char *output,
                                 const char *want, const char *reference, struct str *extracted) {
    (void)rules;
    (void)reference;
    if (!grade_marked_number(output, extracted)) return VERDICT_UNPARSED;
    return verdict_of(strcmp(str_c(extracted), want) == 0);
}

static enum verdict grade_pissa(const struct match_rules *rules, const char *output,
                                const char *want, const char *reference, struct str *extracted) {
    double value;
    (void)rules;
    (void)reference;
    if (!metamath_number(output, extracted, &value)) return VERDICT_UNPARSED;
    return verdict_of(value == strtod(want, NULL));
}

static enum verdict grade_milora(const struct match_rules *rules, const char *output,
                                 const char *want, const char *reference, struct str *extracted) {
    double value, target = strtod(want, NULL);
    (void)rules;
    (void)reference;
    if (!metamath_number(output, extracted, &value)) return VERDICT_UNPARSED;
    return verdict_of(py_isclose(target / 100, value, 1e-4) || py_isclose(target, value, 1e-4) ||
                      py_isclose(target * 100, value, 1e-4));
}

/* lm-eval compares strings, after leaving out ',' and '$' and a full stop at the end. */
static enum verdict compare_lm_eval(const char *want, const struct str *extracted) {
    struct str text = {0};
    for (size_t i = 0; i < extracted->len; i++)
        if (!strchr(",$", extracted->data[i])) str_addc(&text, extracted->data[i]);
    struct view v = view_str(&text);
    if (v.n > 0 && v.s[v.n - 1] == '.') v.n--;
    enum verdict verdict = verdict_of(!text.failed && view_is(v, want));
    str_release(&text);
    return verdict;
}

/* #### (\-?[0-9\.\,]+), first match */
static enum verdict grade_lm_eval(const struct match_rules *rules, const char *output,
                                  const char *want, const char *reference, struct str *extracted) {
    (void)rules;
    (void)reference;
    str_reset(extracted);
    for (const char *s = output; (s = strstr(s, "#### ")); s++) {
        const char *begin = s + 5;
        size_t n = strspn(begin + (*begin == '-'), "0123456789.,");
        if (n == 0) continue;
        str_addn(extracted, begin, n + (*begin == '-'));
        return compare_lm_eval(want, extracted);
    }
    return VERDICT_UNPARSED;
}

/* (-?[$0-9.,]{2,})|(-?[0-9]+), last match */
static enum verdict grade_flexible(const struct match_rules *rules, const char *output,
                                   const char *want, const char *reference, struct str *extracted) {
    struct view last = {NULL, 0};
    (void)rules;
    (void)reference;
    str_reset(extracted);
    for (const char *s = output; *s;) {
        size_t minus = *s == '-', n = strspn(s + minus, "$0123456789.,");
        bool digit = n == 1 && s[minus] >= '0' && s[minus] <= '9';
        if (n >= 2 || digit) last = (struct view){s, minus + n};
        s += n == 0 ? 1 : minus + n;
    }
    if (!last.s) return VERDICT_UNPARSED;
    str_addn(extracted, last.s, last.n);
    return compare_lm_eval(want, extracted);
}

static const struct grader strict = {
    .name = "strict",
    .counts = "zero-shot; right if the first number that directly follows '####' or 'The answer "
              "is' in the output equals the number after '####' in the reference, both as "
              "decimals without '$' and thousands commas (18.0 = 18; no tolerance)",
    .grade = grade_strict};
static const struct grader pissa = {
    .name = "pissa",
    .counts = "zero-shot; right as MetaMath's and PiSSA's programs have it: the first number after "
              "the last 'The answer is: ', rounded to a whole one, is the reference's",
    .grade = grade_pissa};
static const struct grader milora = {
    .name = "milora",
    .counts = "zero-shot; right as MiLoRA's official program has it: the first number after the "
              "last 'The answer is: ', rounded to a whole one, is the reference's, 100 times it or "
              "a hundredth of it, to 1e-4",
    .grade = grade_milora};
static const struct grader lm_eval = {
    .name = "lm-eval",
    .counts = "zero-shot (lm-eval: 5-shot); right as lm-eval's gsm8k with strict-match has it: the "
              "number after the first '#### ' is written as in the reference, ',' and '$' aside",
    .grade = grade_lm_eval};
static const struct grader flexible = {
    .name = "lm-eval-flexible",
    .counts = "zero-shot (lm-eval: 5-shot); right as lm-eval's gsm8k with flexible-extract has it: "
              "the last number of the output is written as in the reference, ',' and '$' aside",
    .grade = grade_flexible};
static const struct grader *const graders[] = {&strict, &pissa, &milora, &lm_eval, &flexible, NULL};

const struct match_rules gsm8k_rules = {.outputs = METAMATH_OUTPUTS(1024),
                                        .truth = truth,
                                        .truth_needs = "`answer` that ends in '#### number'",
                                        .graders = graders};
