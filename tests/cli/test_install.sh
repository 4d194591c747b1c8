#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `make install` puts down works: the program, its manual page and completions, and a program
# built against the installed library.
set -uo pipefail
. "$(dirname "$0")/common.sh"
build=$(dirname "$milora")
[ -f "$build/cmake_install.cmake" ] && command -v cmake >/dev/null || { echo "SKIP: no build folder" >&2; exit 77; }
[ -f "$build/lib/libmilora.a" ] && [ -f "$build/share/milora.1" ] || { echo "SKIP: only parts were built" >&2; exit 77; }
cmake --install "$build" --prefix "$work/root" >log 2>&1 || fail "cmake --install: $(tail -n 3 log)"
for file in bin/milora include/milora/milora.h share/man/man1/milora.1 share/bash-completion/completions/milora \
  share/zsh/site-functions/_milora share/fish/vendor_completions.d/milora.fish; do
  [ -s "root/$file" ] || fail "$file was not installed"
done
"$work/root/bin/milora" --version >out || fail "the installed program does not run"
pc=$(dirname "$(find root -name milora.pc | head -n 1)")
cc=${CC:-cc}
if command -v pkg-config >/dev/null && command -v "$cc" >/dev/null && ! grep -qa __asan_init "$milora"; then
  cat >use.c <<'C'
#include <milora/milora.h>
#include <stdio.h>

int main(void) {
    struct mil_error err;
    if (mil_init(1, &err) != MIL_OK) return 1;
    puts(mil_version());
    return 0;
}
C
  flags=$(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs milora) || fail "pkg-config"
  "$cc" use.c -o use $flags 2>err || fail "linking against the installed library: $(head -n 5 err)"
  [ "$(./use)" = "$("$milora" --version | cut -d' ' -f2)" ] || fail "the small program prints $(./use)"
fi
finish
