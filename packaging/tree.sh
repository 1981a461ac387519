#!/bin/sh
# Lays down what `make install` and `make tarball` give people: tree.sh BINARIES DESTINATION. Below the destination: the binaries, their
# manual pages, completions for bash, zsh and fish, the settings of the pipelines, the documentation.
set -eu

binaries=$1
to=$2
root=$(dirname "$0")/..

for name in gro gro-preprocess gro-train gro-defend gro-attack gro-evaluate gro-serve; do
  if [ ! -x "$binaries/$name" ]; then
    echo "error: there is no $binaries/$name; run make build first" >&2
    exit 2
  fi
  install -D -m 755 "$binaries/$name" "$to/bin/$name"
  "$binaries/$name" man "$to/share/man/man1"
  complete() {
    mkdir -p "$(dirname "$to/share/$2")"
    "$binaries/$name" completions "$1" > "$to/share/$2"
  }
  complete bash "bash-completion/completions/$name"
  complete zsh "zsh/site-functions/_$name"
  complete fish "fish/vendor_completions.d/$name.fish"
done

mkdir -p "$to/share/gro" "$to/share/doc/gro/docs/examples"
install -m 644 "$root"/pipelines/*.yaml "$to/share/gro"
# DVC's pipeline calls itself by its place in the repository.
rm -f "$to/share/gro/dvc.yaml"
install -m 644 "$root/README.md" "$root/CHANGELOG.md" "$root/LICENSE-MIT" "$root/LICENSE-APACHE" "$to/share/doc/gro"
install -m 644 "$root"/docs/*.* "$to/share/doc/gro/docs"
install -m 644 "$root"/docs/examples/*.py "$to/share/doc/gro/docs/examples"
