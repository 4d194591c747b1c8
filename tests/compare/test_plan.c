/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: which cells they give, with which keys, and what is refused with which words. */
#include <math.h>

#include "compare/steps.h"
#include "core/mem.h"
#include "rig.h"

static struct compare_plan plan;
static struct mil_error err;

static enum mil_status read_text(const char *text, const char *const *words, size_t n) {
    rig_write("plan.yaml", text);
    return plan_read("plan.yaml", words, n, &plan, &err);
}
#define read_plan(text) assert_ok(read_text(text, NULL, 0))

static void assert_id(size_t cell, const char *want) {
    char id[COMPARE_ID + 32];
    plan_cell_id(&plan, cell, id);
    assert_string_equal(id, want);
}

/* recipe < train < method < setup < grid < seed. */
static void test_precedence(void **state) {
    struct config c;
    (void)state;
    read_plan(RIG_HEAD "train: {learning_rate: 1e-4, r: 5, lora_dropout: 0}\n"
                       "methods: [lora, {name: Ours, method: milora, learning_rate: 2e-4, r: 6}]\n"
                       "setups: [{name: A}, {name: B, learning_rate: 3e-4}]\n"
                       "grid: {r: [7, 8], lora_dropout: [0.2]}\nseeds: [1, 2]\n");
    assert_int_equal(plan.n_groups, 8);
    assert_int_equal(plan.n_cells, 16);
    assert_id(0, "lora-a-r-7-lora_dropout-0.2/seed-1");
    assert_id(15, "ours-b-r-8-lora_dropout-0.2/seed-2");
    assert_ok(plan_cell_config(&plan, 3, &c, &err)); /* Ours, A, r 7, seed 2 */
    assert_string_equal(c.method, "milora");
    assert_true(c.learning_rate == 2e-4 && c.r == 7 && c.lora_dropout == 0.2 && c.seed == 2);
    assert_int_equal(c.max_steps, 10);
    assert_int_equal(c.save_total_limit, 1);
    assert_int_equal(c.save_steps, COMPARE_SAVE_STEPS);
    assert_string_equal(c.output_dir, "out/cells/ours-a-r-7-lora_dropout-0.2/seed-2/train");
    assert_string_equal(c.svd_cache, "out/svd-cache");
    config_release(&c);
    assert_ok(plan_cell_config(&plan, 15, &c, &err));
    assert_true(c.learning_rate == 3e-4 && c.r == 8 && c.data_seed == -1);
    config_release(&c);
    /* Each with LoRA at the same setup and point; LoRA with nothing. */
    for (size_t i = 0; i < 8; i++)
        assert_true(plan.groups[i].baseline == (i % 2 ? i - 1 : NO_GROUP));
    plan_release_all(&plan);
}

static void test_defaults(void **state) {
    struct compare_step steps[COMPARE_STEPS];
    (void)state;
    read_plan(RIG_HEAD "methods: [milora, {name: 'PiSSA''s +', method: pissa}]\n" RIG_TASKS);
    assert_int_equal(plan.n_cells, 2);
    assert_id(0, "milora/seed-9"); /* the recipe's seed */
    assert_id(1, "pissa-s-plus/seed-9");
    assert_null(plan.baseline);
    assert_true(plan.base && plan.keep == KEEP_ADAPTERS);
    assert_int_equal(steps_list(&plan, 0, steps), 4);
    assert_string_equal(steps[2].name, "eval-ppl");
    assert_string_equal(steps[3].name, "forgetting");
    assert_int_equal(steps_list(&plan, BASE_CELL, steps), 2);
    assert_true(plan.tasks[0].share && !plan.tasks[1].share && !plan.tasks[1].higher_is_better);
    assert_ok(plan_count(&plan, &err));
    assert_true(plan.groups[0].trainable > 0);
    assert_ok(plan_check_data(&plan, &err));
    plan_release_all(&plan);
}

/* load_best_model_at_end wants save_steps that are a multiple of eval_steps. */
static void test_best(void **state) {
    struct config c;
    (void)state;
    read_plan(RIG_HEAD "methods: [lora]\ntrain: {load_best_model_at_end: true, eval_steps: 30, "
                       "eval_dataset: data.jsonl}\n");
    assert_ok(plan_cell_config(&plan, 0, &c, &err));
    assert_int_equal(c.save_steps, 90);
    config_release(&c);
    plan_release_all(&plan);
}

/* Beside the plan where the file is there, else from where the program was started. */
static void test_paths(void **state) {
    struct config c;
    (void)state;
    assert_ok(dir_make("plans", &err));
    rig_write("plans/data.jsonl", "{}\n");
    rig_write("plans/p.yaml",
              RIG_HEAD "methods: [lora]\ntrain: {eval_dataset: [{path: test.jsonl}]}\n"
                       "tasks: [{task: exact_match, data: data.jsonl}]\n");
    assert_ok(plan_read("plans/p.yaml", NULL, 0, &plan, &err));
    assert_ok(plan_cell_config(&plan, 0, &c, &err));
    assert_string_equal(c.dataset.items[0].path, "plans/data.jsonl");
    assert_string_equal(c.eval_dataset.items[0].path, "test.jsonl");
    assert_string_equal(plan.model, "base");
    assert_string_equal(json_string_value(json_object_get(plan.tasks[0].options, "data")),
                        "plans/data.jsonl");
    assert_string_equal(plan.output_dir, "out");
    config_release(&c);
    plan_release_all(&plan);
}

static void test_assignments(void **state) {
    static const char *const words[] = {"seeds=[4]",
                                        "train.r=2",
                                        "tasks.0.limit=20",
                                        "output_dir=a #b",
                                        "methods.1.learning_rate=1e-5",
                                        "baseline=null"};
    struct config c;
    (void)state;
    const char *text = RIG_HEAD
        "methods: [lora, {name: m, method: milora}]\nseeds: [1, 2]\nbaseline: m\n" RIG_TASKS;
    assert_ok(read_text(text, words, 5));
    assert_string_equal(plan.baseline, "m");
    plan_release_all(&plan);
    assert_ok(read_text(text, words, 6));
    assert_string_equal(plan.baseline, "lora"); /* null: the default */
    assert_int_equal(plan.n_cells, 2);
    assert_string_equal(plan.output_dir, "a #b");
    assert_int_equal(json_integer_value(json_object_get(plan.tasks[0].options, "limit")), 20);
    assert_ok(plan_cell_config(&plan, 1, &c, &err));
    assert_true(c.r == 2 && c.seed == 4 && c.learning_rate == 1e-5);
    config_release(&c);
    plan_release_all(&plan);
    static const struct {
        const char *word, *message;
        enum mil_status status;
    } rows[] = {
        {"seeds", "'seeds' is no key=value of the plan", MIL_USAGE},
        {"sedes=[1]", "the command line: unknown key 'sedes'; the nearest known one is 'seeds'",
         MIL_INPUT},
        {"train.lr=1", "the command line: unknown key 'lr'", MIL_INPUT},
        {"train.r=zwei", "the command line: r", MIL_INPUT},
        {"tasks.7.limit=1", "there is no '7' in the plan", MIL_USAGE},
        {"tasks.x=1", "there is no 'x' in the plan", MIL_USAGE},
        {"title.x=1", "'title' in the plan is no map and no list", MIL_USAGE},
        {"seeds=[", "seeds", MIL_USAGE},
        {"train.=1", "a name is missing", MIL_USAGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_fails(read_text(text, &rows[i].word, 1), rows[i].status, rows[i].message);
        plan_release_all(&plan);
    }
}

static void test_refused(void **state) {
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"[1]", "a plan is a map"},
        {RIG_HEAD "method: [lora]\n",
         "plan.yaml:4: unknown key 'method'; the nearest known one is 'methods'"},
        {RIG_HEAD "xyzzy: 1\n", "plan.yaml:4: unknown key 'xyzzy'; docs/formats/compare.md"},
        {RIG_HEAD, "the key 'methods' is missing"},
        {"recipe: recipe.yaml\nmethods: [lora]\n", "the key 'output_dir' is missing"},
        {"output_dir: out\nmethods: [lora]\n", "neither 'recipe' nor 'train'"},
        {"output_dir: out\nmethods: [lora]\ntrain: {r: 3}\n",
         "no model: give train.model_name_or_path"},
        {"output_dir: out\nrecipe: none.yaml\nmethods: [lora]\n",
         "plan.yaml:2: recipe: there is no file none.yaml"},
        {RIG_HEAD "methods: []\n", "plan.yaml:4: methods: must be a list"},
        {RIG_HEAD "methods: [loar]\n", "plan.yaml:4: methods.0:"},
        {RIG_HEAD "methods:\n  - lora\n  - name: x\n    metod: lora\n",
         "plan.yaml:7: unknown key 'metod'"},
        {RIG_HEAD "methods: [{name: x, method: lora, seed: 3}]\n",
         "'methods.0.seed' cannot stand here: the plan's 'seeds'"},
        {RIG_HEAD "methods: [{name: x, method: lora, output_dir: y}]\n", "the comparison sets it"},
        {RIG_HEAD "methods: [{name: x, method: lora, model_name_or_path: y}]\n",
         "all cells share one model"},
        {RIG_HEAD "methods: [lora, lora]\n", "two groups would be called lora"},
        {RIG_HEAD "methods: [{name: A b, method: lora}, {name: a-B, method: milora}]\n",
         "two groups would be called a-b"},
        {RIG_HEAD "methods: [lora]\nsetups: [x]\n",
         "plan.yaml:5: setups.0: must be a map with name"},
        {RIG_HEAD "methods: [lora]\nsetups: [{name: x, method: milora}]\n",
         "'setups.0.method' cannot stand here"},
        {RIG_HEAD "methods: [lora]\nseeds: [1, 1]\n", "plan.yaml:5: seeds: 1 stands twice"},
        {RIG_HEAD "methods: [lora]\nseeds: [-1]\n", "seeds: must be whole numbers"},
        {RIG_HEAD "methods: [lora]\nseeds: []\n", "seeds: must be a list of 1"},
        {RIG_HEAD "methods: [lora]\ngrid: {r: 8}\n",
         "plan.yaml:5: grid.r: must be a list of values"},
        {RIG_HEAD "methods: [lora]\ngrid: {r: [8, 0]}\n", "plan.yaml:5: r"},
        {RIG_HEAD "methods: [lora]\ngrid: {rank: [8]}\n",
         "plan.yaml:5: unknown key 'rank': here it is called 'r'"},
        {RIG_HEAD "methods: [{name: '', method: lora}]\n", "a name has at least one letter"},
        {RIG_HEAD "methods: [{name: \"a\\nb\", method: lora}]\n", "a name has no line breaks"},
        {RIG_HEAD "methods: [lora]\nbaseline: lroa\n",
         "plan.yaml:5: baseline: 'lroa' is none of the methods; did you mean 'lora'?"},
        {RIG_HEAD "methods: [lora]\nbase: 3\n", "plan.yaml:5: base: must be true or false"},
        {RIG_HEAD "methods: [lora]\nkeep: some\n",
         "plan.yaml:5: keep: 'some': adapters, none or all"},
        {RIG_HEAD "methods: [lora]\ntrain: {learning_rat: 1}\n",
         "plan.yaml:5: unknown key 'learning_rat'; the nearest known one is 'learning_rate'"},
        {RIG_HEAD "methods: [lora]\ntrain: {max_steps: x}\n", "plan.yaml:5: max_steps"},
        {RIG_HEAD "methods: [{name: x, method: full, use_dora: true}]\n", "plan.yaml: group x: "},
        {RIG_HEAD "methods: [lora]\ntasks: [{task: gsm9k, data: x}]\n",
         "plan.yaml:5: tasks.0: unknown task 'gsm9k'; did you mean 'gsm8k'?"},
        {RIG_HEAD "methods: [lora]\ntasks: [{data: x}]\n", "tasks.0: the key 'task' is missing"},
        {RIG_HEAD "methods: [lora]\ntasks: [{task: gsm8k}]\n",
         "tasks.0: the key 'data' is missing"},
        {RIG_HEAD "methods: [lora]\ntasks:\n  - task: gsm8k\n    data: x\n    limit: -3\n",
         "plan.yaml:8: tasks.0.limit: must be a whole number"},
        {RIG_HEAD "methods: [lora]\ntasks: [{task: gsm8k, data: x, limt: 3}]\n",
         "plan.yaml:5: unknown key 'tasks.0.limt'; the nearest known one is 'limit'"},
        {RIG_HEAD "methods: [lora]\ntasks: [{task: gsm8k, data: x}, {task: gsm8k, data: y}]\n",
         "two tasks would be called 'gsm8k'"},
        {RIG_HEAD "methods: [lora]\ntasks: [{name: average, task: gsm8k, data: x}]\n",
         "is the name of another number"},
        {RIG_HEAD "methods: [lora]\nforgetting: {max_tokens: 3}\n",
         "plan.yaml:5: forgetting: the key 'data' is missing"},
        {RIG_HEAD "methods: [lora]\nsubspace: {rnk: 3}\n",
         "plan.yaml:5: unknown key 'subspace.rnk'; the nearest known one is 'rank'"},
        {RIG_HEAD "methods: [lora]\nsubspace: 3\n",
         "plan.yaml:5: subspace: must be a map of options"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum mil_status st = read_text(rows[i].text, NULL, 0);
        if (st != MIL_INPUT || !strstr(err.message, rows[i].message))
            fail_msg("%s\n%s: %s\nwant: %s", rows[i].text, mil_status_name(st), err.message,
                     rows[i].message);
        plan_release_all(&plan);
    }
    rig_write("bad.yaml", "model_name_or_path: base\ndataset: data.jsonl\n\nlora_r: 4\n");
    assert_fails(read_text("output_dir: o\nrecipe: bad.yaml\nmethods: [lora]\n", NULL, 0),
                 MIL_INPUT, "bad.yaml:4: unknown key 'lora_r': here it is called 'r'");
    plan_release_all(&plan);
}

/* What only files can tell. */
static void test_files(void **state) {
    (void)state;
    read_plan(RIG_HEAD "methods: [lora]\ntasks: [{task: gsm8k, data: none.jsonl}]\n");
    assert_fails(plan_check_data(&plan, &err), MIL_INPUT,
                 "plan.yaml:5: tasks.0.data: there is no file none.jsonl");
    plan_release_all(&plan);
    read_plan(RIG_HEAD "methods: [lora]\ntrain: {dataset: gone.json}\n");
    assert_fails(plan_check_data(&plan, &err), MIL_INPUT,
                 "plan.yaml: group lora: dataset: there is no gone.json");
    plan_release_all(&plan);
    read_plan(RIG_HEAD "methods: [lora]\ntrain: {target_modules: [q_porj]}\n");
    assert_fails(plan_count(&plan, &err), MIL_USAGE, "plan.yaml: group lora: ");
    plan_release_all(&plan);
    static const char *const rows[][2] = {
        {"interference: {layers: '0-77'}\n", "plan.yaml:5: interference.layers: "},
        {"subspace: {layers: 2}\n", "plan.yaml:5: subspace.layers: "},
        {"interference: {target_modules: [q_proj, nope]}\n",
         "plan.yaml:5: interference.target_modules: "},
        {"subspace: {rank: 17}\n", "plan.yaml:5: subspace.rank: "},
        {"forgetting: {data: text.txt, max_length: 257}\n",
         "plan.yaml:5: forgetting.max_length: is 257; the model has 256 positions"},
        {"train: {target_modules: v_proj}\nsubspace: {target_modules: q_proj}\n",
         "plan.yaml:6: subspace: chooses no module that group lora changes: "},
        {"train: {layers_to_transform: [0]}\ninterference: {layers: 1}\n",
         "plan.yaml:6: interference: chooses no module that group lora changes: "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[300];
        snprintf(text, sizeof text, RIG_HEAD "methods: [lora]\n%s", rows[i][0]);
        read_plan(text);
        assert_fails(plan_count(&plan, &err), MIL_INPUT, rows[i][1]);
        plan_release_all(&plan);
    }
    read_plan(RIG_HEAD "methods: [lora]\ninterference: {rank: 4, layers: [0, 1], target_modules: "
                       "q_proj}\nsubspace: {rank: 16, layers: 1}\nforgetting: {data: text.txt, "
                       "max_length: 256}\n");
    assert_ok(plan_count(&plan, &err));
    plan_release_all(&plan);
    /* k_proj has 16 rows: it sets no limit where nothing changes it. */
    read_plan(RIG_HEAD
              "methods: [lora]\ntrain: {target_modules: [q_proj]}\nsubspace: {rank: 17}\n");
    assert_ok(plan_count(&plan, &err));
    plan_release_all(&plan);
    read_plan(RIG_HEAD "methods: [full]\ninterference: {layers: 1, target_modules: o_proj}\n");
    assert_ok(plan_count(&plan, &err));
    plan_release_all(&plan);
    read_plan(RIG_HEAD "methods: [lora]\ntrain: {model_name_or_path: absent}\n");
    assert_fails(plan_count(&plan, &err), MIL_ACCESS, "absent");
    plan_release_all(&plan);
}

/* Any bytes: a status, no crash; and what is cut anywhere is either a plan or refused. */
static void test_cut(void **state) {
    static const char text[] =
        RIG_HEAD "train: {r: 5}\nmethods: [lora, {name: m, method: milora, r: 3}]\n"
                 "setups: [{name: s, r: 2}]\ngrid: {r: [8, 9]}\nseeds: [1, 2]\n" RIG_TASKS
                 "interference: {rank: 4, layers: [0, 1]}\nsubspace: true\nkeep: none\n";
    char cut[sizeof text];
    (void)state;
    for (size_t n = 0; n < sizeof text; n++) {
        memcpy(cut, text, n);
        cut[n] = 0;
        read_text(cut, NULL, 0);
        plan_release_all(&plan);
    }
}

static void assert_command(size_t cell, size_t step, int64_t threads, const char *want) {
    static struct compare_step steps[COMPARE_STEPS];
    static struct step_command command;
    struct str text = {0};
    assert_true(step < steps_list(&plan, cell, steps));
    assert_ok(step_command(&plan, cell, &steps[step], "milora", threads, &command, &err));
    for (size_t i = 0; i < command.words.n; i++)
        str_addf(&text, "%s%s", i ? " " : "", command.words.items[i]);
    assert_string_equal(str_c(&text), want);
    str_release(&text);
    words_release(&command.words);
}

static void test_commands(void **state) {
    (void)state;
    read_plan(
        RIG_HEAD
        "train: {compute_dtype: f32}\nmethods: [milora, full]\nseeds: [1]\ntasks:\n"
        "  - {name: Judge, task: alpaca_eval, data: test.jsonl}\n"
        "  - {task: humaneval, data: test.jsonl, allow_code_execution: true, temperature: 0.2, "
        "dtype: bf16}\n"
        "forgetting: {data: text.txt, max_tokens: 9}\n"
        "interference: {rank: 2, layers: [0, 1], target_modules: [q_proj, up_proj]}\n"
        "subspace: true\n");
    assert_command(BASE_CELL, 0, 0,
                   "milora eval base --task alpaca_eval --data test.jsonl --dtype f32 --outputs "
                   "out/base/model_outputs-judge.json --generator base --out "
                   "out/base/eval-judge.json --samples out/base/samples-judge.jsonl --quiet");
    assert_command(0, 0, 3, "milora train out/cells/milora/seed-1/config.yaml --quiet --threads 3");
    assert_command(0, 2, 0,
                   "milora eval base --adapter out/cells/milora/seed-1/train --task humaneval "
                   "--data test.jsonl --allow-code-execution --temperature 0.2 --dtype bf16 --out "
                   "out/cells/milora/seed-1/eval-humaneval.json --samples "
                   "out/cells/milora/seed-1/samples-humaneval.jsonl --quiet");
    assert_command(0, 3, 0,
                   "milora analyze forgetting base out/cells/milora/seed-1/train --data text.txt "
                   "--max-tokens 9 --dtype f32 --json --quiet");
    assert_command(0, 4, 0,
                   "milora analyze interference base out/cells/milora/seed-1/train --rank 2 "
                   "--layers 0,1 --target-modules q_proj,up_proj --svd-cache out/svd-cache --json "
                   "--quiet");
    /* A full fine-tune is a model, where a task looks for one. */
    assert_command(1, 1, 0,
                   "milora eval out/cells/full/seed-1/train --task alpaca_eval --data test.jsonl "
                   "--dtype f32 --outputs out/cells/full/seed-1/model_outputs-judge.json "
                   "--generator full/seed-1 --out out/cells/full/seed-1/eval-judge.json --samples "
                   "out/cells/full/seed-1/samples-judge.jsonl --quiet");
    assert_command(1, 5, 0,
                   "milora analyze subspace base out/cells/full/seed-1/train --svd-cache "
                   "out/svd-cache --json --quiet");
    plan_release_all(&plan);
}

/* Every allocation may fail: no plan, or the whole plan. */
static void test_memory(void **state) {
    static const char text[] =
        RIG_HEAD "methods: [lora, {name: m, method: milora, r: 3}]\n"
                 "grid: {r: [8, 9], max_steps: [3]}\nseeds: [1, 2]\n" RIG_TASKS;
    bool whole = false;
    (void)state;
    rig_write("plan.yaml", text);
    for (long n = 0; !whole; n += n < 600 ? 1 : 97) {
        mem_fail_after(n);
        enum mil_status st = plan_read("plan.yaml", NULL, 0, &plan, &err);
        mem_fail_after(-1);
        whole = st == MIL_OK;
        if (whole) assert_true(plan.n_cells == 8 && json_object_size(plan.groups[3].grid) == 2);
        /* A plan that lacks something for want of memory would be refused for what it lacks. */
        if (!whole && st != MIL_NOMEM) fail_msg("allocation %ld: %s", n, err.message);
        plan_release_all(&plan);
    }
}

static int setup(void **state) {
    (void)state;
    rig_enter();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_precedence),  cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_best),        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_assignments), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_files),       cmocka_unit_test(test_cut),
        cmocka_unit_test(test_memory),      cmocka_unit_test(test_commands),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
