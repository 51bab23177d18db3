#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The man pages and --help name the same verbs, options and arguments.

Usage: check-man.py ROOT LAZYDISK
"""
import os
import re
import subprocess
import sys

import tree

WIDTH = 80
HELP_OPTION = re.compile(r'^  (?:-(\w),|   ) --([\w-]+)(?: (\S+))?  +\S')
HELP_VERB = re.compile(r'^  (\w+) +\w')
MAN_OPTION = re.compile(r'^(?:\*-(\w)\*, )?\*--([\w-]+)\*(?: (\S+))?$')
MAN_VERB = re.compile(r'^\*(\w+)\*$')


def section(text, name):
    """The lines of section @name of a man page, subsections included."""
    match = re.search(rf'^# {name}\n(.*?)(?=^# |\Z)', text, re.M | re.S)
    return match.group(1).split('\n') if match else []


def plain(word):
    """An argument without scdoc's marks: "_FILE_" is FILE, "*text*|*json*" is text|json."""
    return re.sub(r'[*_]', '', word or '')


def options(lines, pattern):
    return {m.group(2): (m.group(1) or '', plain(m.group(3)))
            for m in map(pattern.match, lines) if m}


def compare(findings, path, told, written):
    for name in sorted(told.keys() | written.keys()):
        if name not in written:
            findings.add(path, 0, f'--{name} is in --help and not in the page')
        elif name not in told:
            findings.add(path, 0, f'--{name} is in the page and not in --help')
        elif told[name] != written[name]:
            findings.add(path, 0, f'--{name}: {told[name]} in --help, {written[name]} in the page')


def main(root, binary):
    findings = tree.Findings()

    def run(*args):
        done = subprocess.run([binary, *args], capture_output=True, text=True, check=True)
        for number, line in enumerate(done.stdout.split('\n'), 1):
            if len(line) > WIDTH:
                findings.add(' '.join(('lazydisk', *args)), number, f'wider than {WIDTH}')
        return done.stdout.split('\n')

    verbs = [m.group(1) for m in map(HELP_VERB.match, run('--help')) if m]
    overview = tree.read(root, 'man/lazydisk.1.scd')
    written = [m.group(1) for m in map(MAN_VERB.match, section(overview, 'VERBS')) if m]
    if verbs != written or not verbs:
        findings.add('man/lazydisk.1.scd', 0, f'verbs: {verbs} in --help, {written} in the page')
    for verb in verbs:
        path = f'man/lazydisk-{verb}.1.scd'
        if not os.path.exists(os.path.join(root, path)):
            findings.add(path, 0, 'there is no such page')
            continue
        told = options(run(verb, '--help'), HELP_OPTION)
        if len(told) < 3:
            findings.add(path, 0, f'only {sorted(told)} was understood of --help')
        compare(findings, path, told, options(section(tree.read(root, path), 'OPTIONS'), MAN_OPTION))
    findings.end(len(verbs) + 1)


main(sys.argv[1], sys.argv[2])
