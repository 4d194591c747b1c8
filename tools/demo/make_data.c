/* SPDX-License-Identifier: Apache-2.0 */
/* make_data.c - write the demonstration's data sets; the same bytes on every machine.
 *
 *     pretrain.jsonl   {"text": story}           what the base model is made from
 *     heldout.jsonl    {"text": story}           stories it never saw: what it knew
 *     task-train.json  Alpaca rows English -> Kelu   the new task
 *     task-test.json   other sentences of the same kind
 *
 * usage: milora-demo-data DIR [stories] */
#include <stdio.h>
#include <stdlib.h>

#include "core/rng.h"
#include "io/file.h"
#include "world.h"

enum { SEED = 2025, STORIES = 16000, HELD_OUT = 300, TASK_TRAIN = 3000, TASK_TEST = 200 };

static enum mil_status write_stories(const char *dir, const char *name, uint32_t stream, int n,
                                     struct mil_error *err) {
    struct dice d = {SEED, stream, 0};
    struct str text = {0};
    char path[PATH_CAP];
    enum mil_status st = path_join(path, dir, name, err);
    for (int i = 0; i < n; i++) {
        str_add(&text, "{\"text\": \"");
        world_story(&d, &text); /* plain letters and punctuation: nothing to escape */
        str_add(&text, "\"}\n");
    }
    if (st == MIL_OK) st = str_status(&text, err);
    if (st == MIL_OK) st = file_write(path, text.data, text.len, err);
    str_release(&text);
    return st;
}

static enum mil_status write_task(const char *dir, const char *name, const int64_t *number, int n,
                                  struct mil_error *err) {
    struct str text = {0}, english = {0}, kelu = {0};
    char path[PATH_CAP];
    enum mil_status st = path_join(path, dir, name, err);
    str_add(&text, "[\n");
    for (int i = 0; i < n; i++) {
        str_reset(&english);
        str_reset(&kelu);
        world_sentence((int)number[i], &english, &kelu);
        str_addf(&text,
                 "{\"instruction\": \"Say in Kelu: %s\", \"input\": \"\", \"output\": \"%s\"}%s\n",
                 str_c(&english), str_c(&kelu), i + 1 < n ? "," : "");
    }
    str_add(&text, "]\n");
    if (st == MIL_OK) st = str_status(&text, err);
    if (st == MIL_OK) st = file_write(path, text.data, text.len, err);
    str_release(&text);
    str_release(&english);
    str_release(&kelu);
    return st;
}

int main(int argc, char **argv) {
    static int64_t order[WORLD_SENTENCES];
    struct mil_error err = {0};
    if (argc < 2) {
        fprintf(stderr, "usage: milora-demo-data DIR [stories]\n");
        return 2;
    }
    int stories = argc > 2 ? (int)strtol(argv[2], NULL, 10) : STORIES;
    rng_permutation(SEED, 3, 0, WORLD_SENTENCES, order);
    enum mil_status st = dir_make(argv[1], &err);
    if (st == MIL_OK) st = write_stories(argv[1], "pretrain.jsonl", 1, stories, &err);
    if (st == MIL_OK) st = write_stories(argv[1], "heldout.jsonl", 2, HELD_OUT, &err);
    if (st == MIL_OK) st = write_task(argv[1], "task-train.json", order, TASK_TRAIN, &err);
    if (st == MIL_OK)
        st = write_task(argv[1], "task-test.json", order + TASK_TRAIN, TASK_TEST, &err);
    if (st != MIL_OK) fprintf(stderr, "milora-demo-data: %s\n", err.message);
    return mil_status_exit_code(st);
}
