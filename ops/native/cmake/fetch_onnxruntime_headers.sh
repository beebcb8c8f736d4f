#!/bin/sh
# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# fetch_onnxruntime_headers.sh DESTINATION: unpacks the headers of Debian's libonnxruntime-dev into
# DESTINATION/usr/include. Needs no root and installs nothing: apt works on private folders, with a
# source derived from the machine's own Debian mirror with the suite's name replaced, so that a
# machine on an older suite (which lacks the package) still gets it from where it gets the rest.
set -eu

suite=trixie
package=libonnxruntime-dev
mkdir -p "$1"
destination=$(cd "$1" && pwd)  # apt reads relative paths from /etc/apt

for tool in apt-get dpkg dpkg-deb; do
  command -v "$tool" >/dev/null || { echo "$tool: not found; this is no Debian machine"; exit 1; }
done

# Prints "URI<TAB>keyring" of the first source of Debian's main archive, deb822 or one-line format.
main_archive() {
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -r "$file" ] || continue
    awk -v RS='' -F '\n' '
      {
        types = uris = suites = key = enabled = ""
        for (i = 1; i <= NF; i++) {
          value = $i
          sub(/^[^:]*:[ \t]*/, "", value)
          if ($i ~ /^Types:/) types = value
          if ($i ~ /^URIs:/) uris = value
          if ($i ~ /^Suites:/) suites = value
          if ($i ~ /^Enabled:/) enabled = value
          if ($i ~ /^Signed-By:/) key = value
        }
        split(uris, uri, " ")
        if (types ~ /(^| )deb( |$)/ && enabled != "no" && uri[1] ~ /\/debian\/?$/ && suites !~ /-security/) {
          print uri[1] "\t" key
          exit
        }
      }' "$file"
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    awk '$1 == "deb" {
        key = ""
        if (match($0, /signed-by=[^] ]*/)) key = substr($0, RSTART + 10, RLENGTH - 10)
        sub(/\[[^]]*\]/, "")
        if ($2 ~ /\/debian\/?$/ && $3 !~ /-security/) { print $2 "\t" key; exit }
      }' "$file"
  done
}

source_line=$(main_archive | head -n 1)
[ -n "$source_line" ] || { echo "no source of Debian's main archive in /etc/apt"; exit 1; }
uri=$(printf '%s' "$source_line" | cut -f 1)
keyring=$(printf '%s' "$source_line" | cut -f 2)
: "${keyring:=/usr/share/keyrings/debian-archive-keyring.gpg}"

work=$(mktemp -d "$destination/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/sources.d" "$work/lists/partial" "$work/cache/archives/partial" "$work/download"
cat >"$work/sources.d/debian.sources" <<SOURCE
Types: deb
URIs: $uri
Suites: $suite
Components: main
Signed-By: $keyring
SOURCE

private_apt() {
  apt-get --quiet \
    -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources.d" \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$work" \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" \
    -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=2 \
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false "$@"
}

private_apt update
(cd "$work/download" && private_apt download "$package")
dpkg-deb -x "$work"/download/"$package"_*.deb "$work/unpacked"

# Renamed into place last, so that an interrupted run leaves nothing that looks complete.
mkdir -p "$destination/usr"
rm -rf "$destination/usr/include"
mv "$work/unpacked/usr/include" "$destination/usr/include"
