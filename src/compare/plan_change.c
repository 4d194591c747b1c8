/* SPDX-License-Identifier: Apache-2.0 */
/* plan_change.c - assignments of the command line on a plan's document: "train.r=8", "seeds=[1]",
 * "tasks.0.limit=20".  Parts of the path name members, in lists positions from 0; maps that are
 * not there yet are made.  Unknown keys are found by the reading that follows. */
#include <stdlib.h>
#include <string.h>

#include "compare/plan.h"

/* Values that are texts whatever they look like: paths hold ':' and '#'. */
static bool is_text(const char *dotted) {
    static const char *const plain[] = {"title", "output_dir", "recipe"};
    const char *last = strrchr(dotted, '.');
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(dotted, plain[i]) == 0) return true;
    if (!last) return false;
    const struct config_key *key = config_key_find(last + 1);
    return strcmp(last + 1, "data") == 0 || (key && key->kind == CONFIG_TEXT);
}

/* Lines of what the assignment replaces mean nothing now; -1 stands for the command line. */
static enum mil_status forget_lines(struct compare_plan *p, const char *dotted,
                                    struct mil_error *err) {
    const char *key;
    json_t *line;
    void *next;
    size_t n = strlen(dotted);
    json_object_foreach_safe(p->doc.lines, next, key, line) {
        if (strncmp(key, dotted, n) == 0 && key[n] == '.') json_object_del(p->doc.lines, key);
    }
    if (json_object_set_new(p->doc.lines, dotted, json_integer(-1)) != 0)
        return error_nomem(err, 0);
    return MIL_OK;
}

/* The member `name` of a map, or the element of a list; NULL: not there. */
static json_t *child(json_t *node, const char *name) {
    if (json_is_object(node)) return json_object_get(node, name);
    if (!json_is_array(node) || !*name || strspn(name, "0123456789") != strlen(name)) return NULL;
    return json_array_get(node, (size_t)strtoull(name, NULL, 10));
}

static enum mil_status put(json_t *node, const char *name, json_t *value, const char *dotted,
                           struct mil_error *err) {
    int failed = -1;
    if (json_is_object(node)) {
        failed = json_object_set(node, name, value);
    } else if (child(node, name)) {
        failed = json_array_set(node, (size_t)strtoull(name, NULL, 10), value);
    } else {
        return error_set(err, MIL_USAGE, "'%.150s': there is no '%.60s' in the plan to change",
                         dotted, name);
    }
    return failed ? error_nomem(err, 0) : MIL_OK;
}

static enum mil_status descend(json_t **node, const char *name, const char *dotted,
                               struct mil_error *err) {
    json_t *next = child(*node, name);
    if ((!next || json_is_null(next)) && json_is_object(*node)) {
        next = json_object();
        if (!next || json_object_set_new(*node, name, next) != 0) return error_nomem(err, 0);
    }
    if (!next)
        return error_set(err, MIL_USAGE, "'%.150s': there is no '%.60s' in the plan to change",
                         dotted, name);
    if (!json_is_object(next) && !json_is_array(next))
        return error_set(err, MIL_USAGE, "'%.150s': '%.60s' in the plan is no map and no list",
                         dotted, name);
    *node = next;
    return MIL_OK;
}

static enum mil_status assign(struct compare_plan *p, char *dotted, json_t *value,
                              struct mil_error *err) {
    char parts[256];
    json_t *node = p->doc.root;
    char *at = parts;
    snprintf(parts, sizeof parts, "%s", dotted);
    for (char *dot; (dot = strchr(at, '.')) != NULL; at = dot + 1) {
        *dot = '\0';
        TRY(descend(&node, at, dotted, err));
    }
    if (!*at) return error_set(err, MIL_USAGE, "'%.150s': a name is missing", dotted);
    TRY(put(node, at, value, dotted, err));
    return forget_lines(p, dotted, err);
}

enum mil_status plan_change(struct compare_plan *p, const char *assignment, struct mil_error *err) {
    const char *equals = strchr(assignment, '=');
    char dotted[256];
    json_t *value = NULL;
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof dotted)
        return error_set(err, MIL_USAGE,
                         "'%.150s' is no key=value of the plan, such as seeds=[1] or train.r=8",
                         assignment);
    snprintf(dotted, sizeof dotted, "%.*s", (int)(equals - assignment), assignment);
    if (is_text(dotted)) {
        value = json_string(equals + 1);
        if (!value) return error_set(err, MIL_USAGE, "%s: the value is not valid UTF-8", dotted);
    } else {
        enum mil_status st = yaml_read_value(equals + 1, dotted, &value, err);
        if (st != MIL_OK) return st == MIL_INPUT && err ? (err->status = MIL_USAGE) : st;
    }
    enum mil_status st = assign(p, dotted, value, err);
    json_decref(value);
    return st;
}
