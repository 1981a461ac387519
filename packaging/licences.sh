#!/bin/sh
# The licences of all that is linked into the binaries, which they ask to travel with copies: every text once, below the packages that
# come with it. licences.sh FEATURES; for stdout.
set -eu
cd "$(dirname "$0")/.."

features=${1:+--features train/cuda,defend/cuda,attack/cuda,evaluate/cuda}
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
found=$(mktemp)
trap 'rm -f "$found"' EXIT

# shellcheck disable=SC2086
"${CARGO:-cargo}" tree --locked --edges normal --prefix none --format '{p}|{l}' $features \
  -p preprocess -p train -p defend -p attack -p evaluate -p gro | grep -v -e '(/' -e '^$' | sed 's/ (\*)$//; s/ (proc-macro)//' | sort -u |
  while IFS='|' read -r package licence; do
    name=${package%% *}
    version=${package##* v}
    # A package of another one's source, such as zstd's, brings that one's licence below.
    find "$sources"/*/"$name-$version" -maxdepth 3 -type f \
      \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'unlicense*' \) ! -name '*.rs' -exec sha256sum {} + |
      while read -r hash path; do printf '%s\t%s\t%s %s (%s)\n' "$hash" "$path" "$name" "$version" "$licence"; done > "$found.one"
    if [ -s "$found.one" ]; then
      cat "$found.one" >> "$found"
    else
      printf '%s %s is under %s and brings no text of it.\n' "$name" "$version" "$licence"
    fi
    rm -f "$found.one"
  done

cut -f 1 "$found" | sort -u | while read -r hash; do
  printf '\n%s\n\n' '--------------------------------------------------------------------------------'
  awk -F '\t' -v hash="$hash" '$1 == hash { print $3 }' "$found" | sort -u
  printf '\n'
  cat "$(awk -F '\t' -v hash="$hash" '$1 == hash { print $2; exit }' "$found")"
done
