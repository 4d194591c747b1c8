/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - jansson with limits, places in its errors, and typed access that says what was wrong.
 *
 * Objects are jansson's json_t (json_decref frees).  Duplicate keys are refused; numbers are int64
 * or double (an integer past 64 bits becomes a double).  A string never holds a NUL.  Error
 * messages name file, place (line and column, or the key), value, limit.  jansson's memory is
 * core/mem's: what json_dumps returns goes back by mem_free; json_append below replaces it. */
#ifndef MIL_IO_JSON_H
#define MIL_IO_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "core/error.h"
#include "core/str.h"

#define JSON_MAX_BYTES ((size_t)1 << 30) /* of a file read whole */

enum mil_status json_read_file(const char *path, json_t **out, struct mil_error *err);
/* name stands for the text in messages. */
enum mil_status json_read_text(const char *text, size_t n, const char *name, json_t **out,
                               struct mil_error *err);
/* The object or array at the start of text; *used: its bytes.  What follows is left alone, and is
 * not even looked at. */
enum mil_status json_read_prefix(const char *text, size_t n, const char *name, json_t **out,
                                 size_t *used, struct mil_error *err);

/* JSON text appended to out (check str_status): one line if indent < 0, as Python's json.dumps
 * spaces it; reals with the fewest digits that read back to the same double. */
void json_append(const json_t *root, int indent, struct str *out);
void json_append_string(const char *s, size_t n, struct str *out);
void json_append_real(double value, struct str *out);
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
