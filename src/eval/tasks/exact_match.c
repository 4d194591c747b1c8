/* SPDX-License-Identifier: Apache-2.0 */
/* exact_match.c - any rows with a reference: the output is the reference, byte for byte after
 * trimming.  Rows of LLM-Adapters have both `output` ("the correct answer is answer3") and `answer`
 * ("answer3"); a model trained on either is right when it says the one it learned. */
#include <string.h>

#include "eval/graders/grade.h"
#include "eval/tasks/task.h"

static bool truth(const struct match_rules *rules, const struct eval_row *row, struct str *out) {
    (void)rules;
    return row->truth && grade_trimmed(row->truth, out) && out->len > 0;
}

static enum verdict grade(const struct match_rules *rules, const char *output, const char *want,
                          const char *reference, struct str *extracted) {
    (void)rules;
    struct str other = {0};
    grade_trimmed(output, extracted);
    bool right = strcmp(str_c(extracted), want) == 0;
    if (!right && reference && grade_trimmed(reference, &other))
        right = other.len > 0 && strcmp(str_c(extracted), str_c(&other)) == 0;
    if (other.failed) extracted->failed = true; /* out of memory: the caller asks extracted */
    str_release(&other);
    return verdict_of(right);
}

static const struct grader strict = {
    .name = "strict",
    .counts = "right if the output, trimmed of white space, equals byte for byte the row's "
              "`answer` (where it has one) or its reference output, trimmed likewise",
    .grade = grade};
static const struct grader *const graders[] = {&strict, NULL};

const struct match_rules exact_match_rules = {
    .outputs = {.template_name = "alpaca", .max_new_tokens = 128, .num_beams = 1},
    .truth = truth,
    .truth_needs = "`answer` or `output` that is not empty",
    .graders = graders};
