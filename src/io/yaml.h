/* SPDX-License-Identifier: Apache-2.0 */
/* yaml.h - YAML documents as JSON trees, with the line of every key.
 *
 * libyaml events become json_t with the core schema's scalars (null, true/false, integers, floats -
 * "3e-4" too - and strings).  Anchors, aliases, tags, duplicate keys, several documents, more than
 * YAML_MAX_DEPTH levels or YAML_MAX_NODES nodes are MIL_INPUT with line and column. */
#ifndef MIL_IO_YAML_H
#define MIL_IO_YAML_H

#include <jansson.h>

#include "core/error.h"
#include "core/str.h"

#define YAML_MAX_DEPTH 32
#define YAML_MAX_NODES 100000

/* root: the document; lines: dotted path of each key ("dataset.0.path") -> line number. */
struct yaml_doc {
    json_t *root, *lines;
};
enum mil_status yaml_read_file(const char *path, struct yaml_doc *out, struct mil_error *err);
enum mil_status yaml_read_text(const char *text, size_t n, const char *name, struct yaml_doc *out,
                               struct mil_error *err);
void yaml_release(struct yaml_doc *doc);
/* Line of a dotted path, 0 if unknown. */
int64_t yaml_line(const struct yaml_doc *doc, const char *dotted);
/* One value as on a command line: key=VALUE ("3e-4", "[a, b]", "true", "text"). */
enum mil_status yaml_read_value(const char *text, const char *name, json_t **out,
                                struct mil_error *err);
/* A JSON object as a YAML document (block style, strings quoted where needed), appended to out;
 * reading it back gives an equal tree. */
enum mil_status yaml_write(const json_t *root, struct str *out, struct mil_error *err);

#endif
