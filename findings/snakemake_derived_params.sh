#!/usr/bin/env bash
# What happens   A job runs again when a value under `params` has changed, but not when that value comes from a function
#                that also takes `input`: such a param is computed and used, and never compared with that of the last run.
#                A digest of code or settings written so guards nothing, with exit status 0. The same function without
#                `input` makes the job run again.
# Versions       Snakemake 9.27.1
# One expects    the documented trigger `params` to hold for every param of the rule.
# Source         the program's own help says of --rerun-triggers that all of them, params among them, make sure that results
#                fit workflow code and configuration, without this exception.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet snakemake==9.27.1
venv/bin/snakemake --version
touch in.txt
cat > Snakefile <<'SNAKE'
rule all:
    input: "with_input.txt", "without.txt"

rule with_input:
    input: "in.txt"
    output: "with_input.txt"
    params: digest=lambda wildcards, input: config["digest"]
    shell: "echo {params.digest} > {output}"

rule without:
    input: "in.txt"
    output: "without.txt"
    params: digest=lambda wildcards: config["digest"]
    shell: "echo {params.digest} > {output}"
SNAKE
for digest in first second; do
  venv/bin/snakemake --cores 1 --quiet all --config digest=$digest > /dev/null 2>&1
  echo "digest=$digest: with input $(cat with_input.txt), without $(cat without.txt)"
done
[ "$(cat without.txt)" = second ] || { echo "a param without input is not compared any more"; exit 1; }
[ "$(cat with_input.txt)" = first ] || { echo "a param of a function that takes input is compared now"; exit 1; }
