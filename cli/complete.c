/* SPDX-License-Identifier: Apache-2.0 */
/* complete.c - completion scripts of bash, zsh and fish, with every verb, option and closed set of
 * names written out: the shells need not run the program to complete. */
#include <string.h>

#include "cli.h"

static bool takes_value(const struct option *o) {
    return o->type != OPTION_FLAG;
}

/* ---- bash: one case for the value of the option before the cursor, one list of options a verb */

static void bash_options(FILE *f, const struct option *table) {
    for (const struct option *o = table; o && o->name; o++) fprintf(f, " --%s", o->name);
}

static void bash_values(FILE *f, const struct verb *verb) {
    for (const struct option *o = verb->options; o && o->name; o++) {
        if (!takes_value(o)) continue;
        fprintf(f, "    %s:--%s) ", verb->name, o->name);
        if (o->choices) {
            fputs("COMPREPLY=($(compgen -W \"", f);
            const char *const *names = o->choices();
            for (size_t i = 0; names[i]; i++) fprintf(f, i ? " %s" : "%s", names[i]);
            fputs("\" -- \"$cur\")); return ;;\n", f);
        } else if (o->files != FILES_NONE) {
            fprintf(f, "COMPREPLY=($(compgen -%c -- \"$cur\")); return ;;\n",
                    o->files == FILES_DIRS ? 'd' : 'f');
        } else {
            fputs("return ;;\n", f);
        }
    }
}

/* `key=` words, without a space after them. */
static void bash_keys(FILE *f) {
    size_t n;
    const struct mil_config_key *keys = mil_config_keys(&n);
    fputs("  case $verb:$cur in\n", f);
    for (size_t i = 0; verbs[i]; i++)
        if (verbs[i]->keys)
            fprintf(f, "    %s:-*) ;;\n    %s:*) keys=1 ;;\n", verbs[i]->name, verbs[i]->name);
    fputs("  esac\n  if [ -n \"$keys\" ]; then\n    compopt -o nospace 2>/dev/null\n"
          "    COMPREPLY=($(compgen -f -- \"$cur\") $(compgen -W \"",
          f);
    for (size_t i = 0; i < n; i++) fprintf(f, "%s= ", keys[i].name);
    fputs("\" -- \"$cur\"))\n    return\n  fi\n", f);
}

static void bash_script(FILE *f) {
    fputs("# bash completion of milora, generated from its option tables\n"
          "_milora() {\n"
          "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "  local verb=${COMP_WORDS[1]} options= keys=\n"
          "  compopt -o filenames 2>/dev/null\n"
          "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W \"",
          f);
    for (size_t i = 0; verbs[i]; i++)
        if (!verbs[i]->hidden) fprintf(f, "%s ", verbs[i]->name);
    fputs("--help --version\" -- \"$cur\"))\n    return\n  fi\n  case $verb:$prev in\n", f);
    for (size_t i = 0; verbs[i]; i++)
        if (!verbs[i]->hidden) bash_values(f, verbs[i]);
    fputs("    *:--threads) return ;;\n  esac\n  case $verb in\n", f);
    for (size_t i = 0; verbs[i]; i++) {
        if (verbs[i]->hidden) continue;
        fprintf(f, "    %s) options=\"", verbs[i]->name);
        bash_options(f, verbs[i]->options);
        bash_options(f, common_options);
        fputs("\" ;;\n", f);
    }
    fputs("  esac\n", f);
    bash_keys(f);
    fputs("  case $cur in\n"
          "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")) ;;\n"
          "    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
          "  esac\n}\ncomplete -F _milora milora\n",
          f);
}

/* ---- zsh: _arguments specifications */

/* Help text inside a single-quoted _arguments specification. */
static void zsh_text(FILE *f, const char *s) {
    for (; *s; s++) {
        if (*s == '\'')
            fputs("'\\''", f);
        else if (strchr("[]:\\", *s))
            fprintf(f, "\\%c", *s);
        else
            fputc(*s, f);
    }
}

static void zsh_action(FILE *f, const struct option *o) {
    fputc(':', f);
    zsh_text(f, o->value ? o->value : o->name);
    fputc(':', f);
    if (o->choices) {
        const char *const *names = o->choices();
        for (size_t i = 0; names[i]; i++) fprintf(f, i ? " %s" : "(%s", names[i]);
        fputc(')', f);
    } else if (o->files != FILES_NONE) {
        fputs(o->files == FILES_DIRS ? "_files -/" : "_files", f);
    }
}

static void zsh_options(FILE *f, const struct option *table) {
    for (const struct option *o = table; o && o->name; o++) {
        fprintf(f, " \\\n        '--%s%s[", o->name, takes_value(o) ? "=" : "");
        zsh_text(f, o->help);
        fputc(']', f);
        if (takes_value(o)) zsh_action(f, o);
        fputc('\'', f);
    }
}

static void zsh_script(FILE *f) {
    fputs("#compdef milora\n# generated from milora's option tables\n"
          "_milora() {\n  local -a verbs\n  verbs=(\n",
          f);
    for (size_t i = 0; verbs[i]; i++) {
        if (verbs[i]->hidden) continue;
        fprintf(f, "    '%s:", verbs[i]->name);
        zsh_text(f, verbs[i]->summary);
        fputs("'\n", f);
    }
    fputs("  )\n  if (( CURRENT == 2 )); then\n    _describe verb verbs\n    return\n  fi\n"
          "  local verb=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $verb in\n",
          f);
    for (size_t i = 0; verbs[i]; i++) {
        if (verbs[i]->hidden) continue;
        fprintf(f, "    %s)\n      _arguments", verbs[i]->name);
        zsh_options(f, verbs[i]->options);
        zsh_options(f, common_options);
        fputs(" \\\n        '*:file:_files'\n      ;;\n", f);
    }
    fputs(
        "  esac\n}\nif [ \"$funcstack[1]\" = _milora ]; then _milora \"$@\"; else compdef _milora "
        "milora; fi\n",
        f);
}

/* ---- fish: one complete line an option */

static void fish_text(FILE *f, const char *s) {
    fputc('\'', f);
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\') fputc('\\', f);
        fputc(*s, f);
    }
    fputc('\'', f);
}

static void fish_options(FILE *f, const char *verb, const struct option *table) {
    for (const struct option *o = table; o && o->name; o++) {
        fprintf(f, "complete -c milora -n '__fish_seen_subcommand_from %s' -l %s", verb, o->name);
        if (takes_value(o)) fputs(o->files == FILES_NONE ? " -x" : " -r", f);
        if (o->choices) {
            const char *const *names = o->choices();
            for (size_t i = 0; names[i]; i++) fprintf(f, i ? " %s" : " -a '%s", names[i]);
            fputc('\'', f);
        }
        fputs(" -d ", f);
        fish_text(f, o->help);
        fputc('\n', f);
    }
}

static void fish_script(FILE *f) {
    fputs("# fish completion of milora, generated from its option tables\n", f);
    for (size_t i = 0; verbs[i]; i++) {
        if (verbs[i]->hidden) continue;
        fprintf(f, "complete -c milora -n __fish_use_subcommand -f -a %s -d ", verbs[i]->name);
        fish_text(f, verbs[i]->summary);
        fputc('\n', f);
        fish_options(f, verbs[i]->name, verbs[i]->options);
        fish_options(f, verbs[i]->name, common_options);
    }
}

bool complete_script(FILE *f, const char *shell) {
    if (strcmp(shell, "bash") == 0)
        bash_script(f);
    else if (strcmp(shell, "zsh") == 0)
        zsh_script(f);
    else if (strcmp(shell, "fish") == 0)
        fish_script(f);
    else
        return false;
    return true;
}
