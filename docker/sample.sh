#!/usr/bin/env bash
# sample.sh DIR: creates DIR/origin.git, a sample repository for workers: a small npm package with a test and a
# dependency that needs no registry. Replaces an existing DIR/origin.git.
set -euo pipefail
dir=${1:?usage: sample.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
rm -rf "$dir/origin.git"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/vendor/names"
cat >"$work/package.json" <<'JSON'
{
  "name": "sample",
  "version": "1.0.0",
  "private": true,
  "scripts": { "test": "node test.js" },
  "dependencies": { "names": "file:vendor/names" }
}
JSON
printf '%s\n' '{ "name": "names", "version": "1.0.0", "main": "index.js" }' >"$work/vendor/names/package.json"
printf '%s\n' 'module.exports = ["Ada", "Grace"];' >"$work/vendor/names/index.js"
printf '%s\n' 'exports.greet = (name) => `Hello, ${name}!`;' >"$work/greeting.js"
cat >"$work/test.js" <<'JS'
const assert = require("node:assert");
const { greet } = require("./greeting.js");
for (const name of require("names")) assert.strictEqual(greet(name), `Hello, ${name}!`);
console.log("all tests passed");
JS
printf 'node_modules/\npackage-lock.json\n' >"$work/.gitignore"

git -C "$work" init --quiet --initial-branch=main
git -C "$work" add .
git -C "$work" -c user.name=relay -c user.email=relay@example.com commit --quiet -m 'A greeting, and its test'
git clone --quiet --bare "$work" "$dir/origin.git"
# Workers run as the owner of DIR, so the repository gets the same owner.
chown -R --reference="$dir" "$dir/origin.git" 2>/dev/null || true
