/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - jansson with limits, places in its errors, and typed access that says what was wrong.
 *
 * Objects are jansson's json_t (json_decref frees).  Duplicate keys are refused; numbers are int64
 * or double.  Error messages name file, place (line and column, or the key's dotted path), value,
 * limit. */
#ifndef MIL_IO_JSON_H
#define MIL_IO_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "core/error.h"
#include "core/str.h"

enum mil_status json_read_file(const char *path, json_t **out, struct mil_error *err);
/* name stands for the text in messages. */
enum mil_status json_read_text(const char *text, size_t n, const char *name, json_t **out,
                               struct mil_error *err);
/* Pretty-printed (indent 2, keys in insertion order) with a final newline, atomically. */
enum mil_status json_write_file(const char *path, const json_t *root, struct mil_error *err);

/* Typed members of an object.  `where` names the object in messages ("config.json").  A missing key
 * (or null) leaves *out alone when !required, and is MIL_INPUT when required; a wrong type or a
 * value outside [min, max] is MIL_INPUT. Strings are borrowed from the object. */
enum mil_status json_member_i64(const json_t *obj, const char *where, const char *key,
                                bool required, int64_t min, int64_t max, int64_t *out,
                                struct mil_error *err);
enum mil_status json_member_f64(const json_t *obj, const char *where, const char *key,
                                bool required, double min, double max, double *out,
                                struct mil_error *err);
enum mil_status json_member_bool(const json_t *obj, const char *where, const char *key,
                                 bool required, bool *out, struct mil_error *err);
enum mil_status json_member_str(const json_t *obj, const char *where, const char *key,
                                bool required, const char **out, struct mil_error *err);

#endif
